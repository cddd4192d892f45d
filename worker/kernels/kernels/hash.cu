// Whether two pictures are the same: a hash to find candidates, the samples to decide.
// Reference: `Picture::content_hash` in worker/media/src/picture.rs, equal: XXH64 (Yann Collet) of each visible row of all
// planes, each seeded with the hash so far, the first with width << 32 | height.

typedef struct {
    const Frame *frames;
    u64 *hashes;
    int count;
} HashArgs;

typedef struct {
    const Frame *frames;
    // Two frames each.
    const int *pairs;
    // 0 beforehand; 1 where a pair differs.
    u32 *differs;
    int count;
} DifferArgs;

#define P1 0x9e3779b185ebca87ull
#define P2 0xc2b2ae3d27d4eb4full
#define P3 0x165667b19e3779f9ull
#define P4 0x85ebca77c2b2ae63ull
#define P5 0x27d4eb2f165667c5ull

DEVICE u64 turned(u64 value, int by) {
    return value << by | value >> (64 - by);
}

DEVICE u64 mixed(u64 lane, u64 input) {
    return turned(lane + input * P2, 31) * P1;
}

// Every second byte, packed.
DEVICE u64 even_bytes(u64 word) {
    word &= 0x00ff00ff00ff00ffull;
    word = (word | word >> 8) & 0x0000ffff0000ffffull;
    return (word | word >> 16) & 0xffffffffull;
}

// Eight samples, little-endian. In words where they lie so.
DEVICE u64 eight(const u8 *row, int at, int step) {
    u64 address = (u64)(row + (i64)at * step);
    if (step == 1 && (address & 7) == 0) {
        return *(const u64 *)address;
    }
    // A row of pairs: its samples are the even or the odd bytes of aligned words.
    if (step == 2 && (address & 6) == 0) {
        const u64 *words = (const u64 *)(address & ~7ull);
        int odd = (int)(address & 1) * 8;
        return even_bytes(words[0] >> odd) | even_bytes(words[1] >> odd) << 32;
    }
    u64 word = 0;
    for (int i = 7; i >= 0; i--) {
        word = word << 8 | row[(i64)(at + i) * step];
    }
    return word;
}

DEVICE u64 xxh64(const u8 *row, int length, int step, u64 seed) {
    int at = 0;
    u64 hash = seed + P5;
    if (length >= 32) {
        u64 a = seed + P1 + P2;
        u64 b = seed + P2;
        u64 c = seed;
        u64 d = seed - P1;
        for (; at + 32 <= length; at += 32) {
            a = mixed(a, eight(row, at, step));
            b = mixed(b, eight(row, at + 8, step));
            c = mixed(c, eight(row, at + 16, step));
            d = mixed(d, eight(row, at + 24, step));
        }
        hash = turned(a, 1) + turned(b, 7) + turned(c, 12) + turned(d, 18);
        hash = (hash ^ mixed(0, a)) * P1 + P4;
        hash = (hash ^ mixed(0, b)) * P1 + P4;
        hash = (hash ^ mixed(0, c)) * P1 + P4;
        hash = (hash ^ mixed(0, d)) * P1 + P4;
    }
    hash += (u64)length;
    for (; at + 8 <= length; at += 8) {
        hash = turned(hash ^ mixed(0, eight(row, at, step)), 27) * P1 + P4;
    }
    if (at + 4 <= length) {
        u64 word = 0;
        for (int i = 3; i >= 0; i--) {
            word = word << 8 | row[(i64)(at + i) * step];
        }
        hash = turned(hash ^ word * P1, 23) * P2 + P3;
        at += 4;
    }
    for (; at < length; at++) {
        hash = turned(hash ^ row[(i64)at * step] * P5, 11) * P1;
    }
    hash = (hash ^ hash >> 33) * P2;
    hash = (hash ^ hash >> 29) * P3;
    return hash ^ hash >> 32;
}

// One thread a frame: every row's seed is the hash of the row before, so there is nothing to share out within a picture.
KERNEL hash(HashArgs a) {
    int i = (int)(blockIdx.x * blockDim.x + threadIdx.x);
    if (i >= a.count) {
        return;
    }
    const Frame *frame = &a.frames[i];
    u64 state = (u64)frame->width << 32 | (u64)frame->height;
    int planes = frame->planes[1] ? 3 : 1;
    for (int plane = 0; plane < planes; plane++) {
        int width = plane ? frame->chroma_width : frame->width;
        int height = plane ? frame->chroma_height : frame->height;
        for (int y = 0; y < height; y++) {
            const u8 *row = frame->planes[plane] + (i64)y * frame->strides[plane];
            state = xxh64(row, width, plane ? frame->step : 1, state);
        }
    }
    a.hashes[i] = state;
}

// One block a row of a pair of frames of one shape: luma's rows first, then those of both colour differences.
KERNEL differ(DifferArgs a) {
    int pair = (int)blockIdx.y;
    if (pair >= a.count) {
        return;
    }
    const Frame *one = &a.frames[a.pairs[2 * pair]];
    const Frame *other = &a.frames[a.pairs[2 * pair + 1]];
    int y = (int)blockIdx.x;
    int plane = 0;
    if (y >= one->height) {
        y -= one->height;
        if (!one->planes[1] || y >= 2 * one->chroma_height) {
            return;
        }
        plane = y < one->chroma_height ? 1 : 2;
        y -= (plane - 1) * one->chroma_height;
    }
    int width = plane ? one->chroma_width : one->width;
    const u8 *left = one->planes[plane] + (i64)y * one->strides[plane];
    const u8 *right = other->planes[plane] + (i64)y * other->strides[plane];
    for (int x = (int)threadIdx.x; x < width; x += (int)blockDim.x) {
        if (left[(i64)x * (plane ? one->step : 1)] != right[(i64)x * (plane ? other->step : 1)]) {
            a.differs[pair] = 1;
            return;
        }
    }
}
