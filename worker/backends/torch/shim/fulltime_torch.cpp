// What tch has no call for. Only names of libtorch_cpu and libc10 are used, through the interfaces that dispatch by device
// type: one binary runs on the CPU, and on CUDA once libtorch_cuda has been loaded and has registered itself.
//
// Every function returns null, or the message of an exception in memory of the caller's (`ft_free`).

#include <ATen/Context.h>
#include <ATen/Version.h>
#include <ATen/autocast_mode.h>
#include <ATen/core/Tensor.h>
#include <c10/core/AllocatorConfig.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <c10/core/Event.h>
#include <c10/core/InferenceMode.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <cstring>
#include <exception>
#include <memory>

namespace {

template <typename F>
char* guarded(F f) {
  try {
    f();
    return nullptr;
  } catch (const c10::Error& error) {
    // Without the backtrace that `what()` appends.
    return strdup(error.what_without_backtrace());
  } catch (const std::exception& error) {
    return strdup(error.what());
  } catch (...) {
    return strdup("an exception of an unknown kind");
  }
}

c10::Device device(int cuda) {
  return cuda < 0 ? c10::Device(c10::kCPU) : c10::Device(c10::kCUDA, static_cast<c10::DeviceIndex>(cuda));
}

// Autocast and inference mode are properties of a thread; both end where this does.
struct Scope {
  explicit Scope(c10::Device where, bool inference, int precision) : type(where.type()) {
    if (inference) mode = std::make_unique<c10::InferenceMode>(true);
    autocast = precision != 0;
    if (autocast) {
      was_enabled = at::autocast::is_autocast_enabled(type);
      was_cached = at::autocast::is_autocast_cache_enabled();
      was = at::autocast::get_autocast_dtype(type);
      at::autocast::increment_nesting();
      at::autocast::set_autocast_dtype(type, precision == 1 ? at::kHalf : at::kBFloat16);
      at::autocast::set_autocast_enabled(type, true);
      at::autocast::set_autocast_cache_enabled(true);
    }
  }

  ~Scope() {
    if (!autocast) return;
    if (at::autocast::decrement_nesting() == 0) at::autocast::clear_cache();
    at::autocast::set_autocast_enabled(type, was_enabled);
    at::autocast::set_autocast_dtype(type, was);
    at::autocast::set_autocast_cache_enabled(was_cached);
  }

  c10::DeviceType type;
  std::unique_ptr<c10::InferenceMode> mode;
  bool autocast = false, was_enabled = false, was_cached = false;
  at::ScalarType was = at::kFloat;
};

// A stream of its own for each device of a split model.
struct Lane {
  explicit Lane(c10::Device where) : guard(where.type()), stream(guard.getNewStream(where)) {}
  c10::impl::VirtualGuardImpl guard;
  c10::Stream stream;
};

}  // namespace

extern "C" {

void ft_free(char* message) { free(message); }

// How libtorch was built (commit, compilers, libraries) and which instructions it uses here, in memory of the caller's.
char* ft_config() { return strdup(at::show_config().c_str()); }

char* ft_switches(bool tf32, bool autotune, bool flash, bool memory_efficient) {
  return guarded([=] {
    auto& context = at::globalContext();
    context.setAllowTF32CuBLAS(tf32);
    context.setAllowTF32CuDNN(tf32);
    context.setBenchmarkCuDNN(autotune);
    context.setDeterministicCuDNN(true);
    context.setSDPUseFlash(flash);
    context.setSDPUseMemEfficient(memory_efficient);
    context.setSDPUseMath(true);
    context.setSDPUseCuDNN(false);
  });
}

// Before the first allocation on a device. `fraction` of each device's memory is this process's.
char* ft_memory_fraction(double fraction) {
  return guarded(
      [=] { c10::CachingAllocator::setAllocatorSettings("per_process_memory_fraction:" + std::to_string(fraction)); });
}

// Bytes of a GPU: held by the allocator, most that tensors have taken since the last `ft_forget_peak`, all there are.
char* ft_memory(int cuda, int64_t* held, int64_t* peak, int64_t* total) {
  return guarded([=] {
    auto index = static_cast<c10::DeviceIndex>(cuda);
    auto* allocator = c10::getDeviceAllocator(c10::kCUDA);
    auto stats = allocator->getDeviceStats(index);
    // Index 0 is the sum over the pools of small and large blocks.
    *held = stats.reserved_bytes[0].current;
    *peak = stats.allocated_bytes[0].peak;
    *total = static_cast<int64_t>(allocator->getMemoryInfo(index).second);
  });
}

char* ft_forget_peak(int cuda) {
  return guarded([=] { c10::getDeviceAllocator(c10::kCUDA)->resetPeakStats(static_cast<c10::DeviceIndex>(cuda)); });
}

char* ft_empty_cache() {
  return guarded([] { c10::getDeviceAllocator(c10::kCUDA)->emptyCache(); });
}

char* ft_scope_begin(int cuda, bool inference, int precision, Scope** scope) {
  return guarded([=] { *scope = new Scope(device(cuda), inference, precision); });
}

void ft_scope_end(Scope* scope) { delete scope; }

// Only for CUDA devices: the CPU has no streams, and its stages need none.
char* ft_lane_new(int cuda, Lane** lane) {
  return guarded([=] { *lane = new Lane(device(cuda)); });
}

void ft_lane_free(Lane* lane) { delete lane; }

// Makes the lane's device and stream those of this thread.
char* ft_lane_enter(Lane* lane) {
  return guarded([=] {
    lane->guard.exchangeDevice(lane->stream.device());
    lane->guard.exchangeStream(lane->stream);
  });
}

// Marks what this lane has been told to do so far. A mark is made once and followed once, so that no two threads meet in it.
char* ft_mark_new(Lane* lane, c10::Event** mark) {
  return guarded([=] {
    auto event = std::make_unique<c10::Event>(lane->stream.device_type());
    event->record(lane->stream);
    *mark = event.release();
  });
}

void ft_mark_free(c10::Event* mark) { delete mark; }

// What this lane is told from now on waits on the device, not on the host, for the mark.
char* ft_lane_follow(Lane* lane, const c10::Event* mark) {
  return guarded([=] { mark->block(lane->stream); });
}

// The allocator must not hand out this tensor's memory again before the lane is through with it.
char* ft_lane_uses(Lane* lane, const at::Tensor* tensor) {
  return guarded([=] {
    c10::getDeviceAllocator(c10::kCUDA)->recordStream(tensor->storage().data_ptr(), lane->stream);
  });
}

}
