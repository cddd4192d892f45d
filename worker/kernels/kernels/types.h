// What the kernels and their callers hand each other; `src/args.rs` has the same structures, and tests compare the sizes.
//
// Everything here is written in what C and CUDA C++ have in common, without headers: NVRTC compiles it as it is, and a C
// compiler for tests on the processor, where `KERNEL` and `DEVICE` are defined beforehand. Integers wherever the reference
// has them; sums and products of floats in the reference's order, compiled without contraction into fused operations.
#ifndef KERNEL
#define KERNEL extern "C" __global__ void __launch_bounds__(256)
#define DEVICE static __device__ __forceinline__
#endif

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef long long i64;

// A picture of 8-bit samples: NV12 (`step` 2, the second plane holds pairs, planes[2] is planes[1] + 1), planar with any
// subsampling (`step` 1), or gray (planes[1] is null).
typedef struct {
    const u8 *planes[3];
    // Bytes from one row to the next.
    int strides[3];
    // Bytes from one sample of a colour difference to the next.
    int step;
    int width, height;
    int chroma_width, chroma_height;
    // Luma samples per sample of a colour difference, horizontally and vertically.
    int across, down;
} Frame;

// A rectangle of a picture and its place in the network input; nothing is placed where `wide` is 0.
typedef struct {
    int frame;
    int x, y, width, height;
    int left, top, wide, high;
} Placed;

// The two samples that an output column lies between, and the weight of the right one.
typedef struct {
    int left, right;
    float weight;
} Column;

// The two rows that an output row lies between, and the weight of the lower one in 1/256.
typedef struct {
    int upper, lower;
    int weight;
} Row;

// Colour matrix, range and normalisation as `fulltime_vision::reference::Colour` makes them.
typedef struct {
    float luma, red_cr, green_cb, green_cr, blue_cb;
    float offset[3];
    float gain[3];
    float bias[3];
    float pad[3];
} Colour;

typedef struct {
    float score;
    float x, y, w, h;
    u32 label;
} Box;

DEVICE u32 bits_of(float value) {
    union {
        float value;
        u32 bits;
    } both;
    both.value = value;
    return both.bits;
}
