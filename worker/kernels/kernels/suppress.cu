// Greedy class-aware non-maximum suppression of the boxes of many items. Reference: `suppress` in worker/vision/src/boxes.rs,
// equal: the same boxes in the same order. Three kernels: order, overlaps as bits, and the one serial walk over them.

typedef struct {
    // `capacity` of each item, of which the first counts[item] are boxes.
    const Box *boxes;
    const int *counts;
    // Place in order -> box.
    u32 *order;
    // Per box in order `words` words: whom it suppresses among those behind it.
    u64 *masks;
    // `words` of each item.
    u64 *gone;
    Box *kept;
    int *kept_counts;
    int items, capacity, words;
    float iou;
} SuppressArgs;

// A float's bits as an integer of the same order (IEEE 754 totalOrder).
DEVICE int total(float value) {
    int bits = (int)bits_of(value);
    return bits ^ (int)((u32)(bits >> 31) >> 1);
}

// Best score first, then label and position bit by bit; of equals the first.
DEVICE int precedes(const Box *a, int i, const Box *b, int j) {
    if (total(a->score) != total(b->score)) {
        return total(a->score) > total(b->score);
    }
    if (a->label != b->label) {
        return a->label < b->label;
    }
    if (bits_of(a->x) != bits_of(b->x)) {
        return bits_of(a->x) < bits_of(b->x);
    }
    if (bits_of(a->y) != bits_of(b->y)) {
        return bits_of(a->y) < bits_of(b->y);
    }
    if (bits_of(a->w) != bits_of(b->w)) {
        return bits_of(a->w) < bits_of(b->w);
    }
    if (bits_of(a->h) != bits_of(b->h)) {
        return bits_of(a->h) < bits_of(b->h);
    }
    return i < j;
}

// Intersection over union.
DEVICE float overlap_of(const Box *a, const Box *b) {
    float right = a->x + a->w < b->x + b->w ? a->x + a->w : b->x + b->w;
    float bottom = a->y + a->h < b->y + b->h ? a->y + a->h : b->y + b->h;
    float w = right - (a->x > b->x ? a->x : b->x);
    float h = bottom - (a->y > b->y ? a->y : b->y);
    float common = w > 0.0f && h > 0.0f ? w * h : 0.0f;
    return common / (a->w * a->h + b->w * b->h - common);
}

// One thread a box: how many precede it is its place.
KERNEL rank(SuppressArgs a) {
    int i = (int)(blockIdx.x * blockDim.x + threadIdx.x);
    int item = (int)blockIdx.y;
    if (item >= a.items || i >= a.counts[item]) {
        return;
    }
    const Box *boxes = a.boxes + (i64)item * a.capacity;
    u32 place = 0;
    for (int j = 0; j < a.counts[item]; j++) {
        place += (u32)precedes(&boxes[j], j, &boxes[i], i);
    }
    a.order[(i64)item * a.capacity + place] = (u32)i;
}

// One thread a word of a mask.
KERNEL overlap(SuppressArgs a) {
    int word = (int)(blockIdx.x * blockDim.x + threadIdx.x);
    int i = (int)blockIdx.y;
    int item = (int)blockIdx.z;
    if (item >= a.items || word >= a.words || i >= a.counts[item]) {
        return;
    }
    const Box *boxes = a.boxes + (i64)item * a.capacity;
    const u32 *order = a.order + (i64)item * a.capacity;
    const Box *better = &boxes[order[i]];
    u64 mask = 0;
    for (int bit = 0; bit < 64; bit++) {
        int j = word * 64 + bit;
        if (j > i && j < a.counts[item]) {
            const Box *candidate = &boxes[order[j]];
            if (candidate->label == better->label && overlap_of(better, candidate) > a.iou) {
                mask |= (u64)1 << bit;
            }
        }
    }
    a.masks[((i64)item * a.capacity + i) * a.words + word] = mask;
}

// One thread an item: who is not gone stays, and takes those with it that it suppresses.
KERNEL keep(SuppressArgs a) {
    int item = (int)(blockIdx.x * blockDim.x + threadIdx.x);
    if (item >= a.items) {
        return;
    }
    u64 *gone = a.gone + (i64)item * a.words;
    for (int word = 0; word < a.words; word++) {
        gone[word] = 0;
    }
    int kept = 0;
    for (int i = 0; i < a.counts[item]; i++) {
        if (gone[i / 64] >> (i % 64) & 1) {
            continue;
        }
        i64 first = (i64)item * a.capacity;
        a.kept[first + kept++] = a.boxes[first + a.order[first + i]];
        for (int word = i / 64; word < a.words; word++) {
            gone[word] |= a.masks[(first + i) * a.words + word];
        }
    }
    a.kept_counts[item] = kept;
}
