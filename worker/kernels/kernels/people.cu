// Where descriptions look: boxes of people to crops, laid into the input of the model that sees them; `axes` and `prepare`
// do the rest. Reference: `person` (worker/vision/src/describe.rs) and `Placed::new` (geometry.rs), equal.

typedef struct {
    const Frame *frames;
    const Box *boxes;
    // Which frame each box is in.
    const int *frame_of;
    Placed *crops;
    int count;
    // Of the network input.
    int width, height;
    // 0: keep the aspect, top left; 1: keep it, centred; 2: stretch.
    int resize;
    // Left, top, right, bottom as shares of the box.
    float region[4];
} PeopleArgs;

// The whole pixel nearest to a share of the box. Pictures have fewer than 2^17 pixels a side.
DEVICE int pixel_at(float start, float length, float share) {
    float at = start + length * share;
    if (!(at > 0.0f)) {
        return 0;
    }
    return at >= 131072.0f ? 131072 : (int)rintf(at);
}

DEVICE void span(float start, float length, float from, float to, int limit, int *first, int *count) {
    int low = pixel_at(start, length, from);
    low = low < limit - 1 ? low : limit - 1;
    int high = pixel_at(start, length, to);
    high = high < low + 1 ? low + 1 : high > limit ? limit : high;
    *first = low;
    *count = high - low;
}

// The side that does not fill the input, rounded to whole pixels.
DEVICE int part(int side, int by, int of, int limit) {
    i64 exact = (2 * (i64)side * by + of) / (2 * (i64)of);
    return exact < 1 ? 1 : exact > limit ? limit : (int)exact;
}

KERNEL people(PeopleArgs a) {
    int i = (int)(blockIdx.x * blockDim.x + threadIdx.x);
    if (i >= a.count) {
        return;
    }
    Box box = a.boxes[i];
    const Frame *frame = &a.frames[a.frame_of[i]];
    Placed crop;
    crop.frame = a.frame_of[i];
    span(box.x, box.w, a.region[0], a.region[2], frame->width, &crop.x, &crop.width);
    span(box.y, box.h, a.region[1], a.region[3], frame->height, &crop.y, &crop.height);
    crop.wide = a.width;
    crop.high = a.height;
    if (a.resize != 2) {
        if ((i64)crop.width * a.height >= (i64)crop.height * a.width) {
            crop.high = part(crop.height, a.width, crop.width, a.height);
        } else {
            crop.wide = part(crop.width, a.height, crop.height, a.width);
        }
    }
    crop.left = a.resize == 1 ? (a.width - crop.wide) / 2 : 0;
    crop.top = a.resize == 1 ? (a.height - crop.high) / 2 : 0;
    a.crops[i] = crop;
}
