// Pictures to network input: resize, colours, normalisation and layout in one pass over the output.
// Reference: worker/vision/src/preprocess.rs, equal to the bit; half precision is its f32 rounded to nearest, ties to even.

typedef struct {
    const Frame *frames;
    const Placed *crops;
    // Per crop those of luma, then those of the colour differences, `width` and `height` of each.
    Column *columns;
    Row *rows;
    int count;
    // Of the network input.
    int width, height;
} AxesArgs;

typedef struct {
    const Frame *frames;
    const Placed *crops;
    const Column *columns;
    const Row *rows;
    void *out;
    int count;
    int width, height;
    // Whether the channels come as blue, green, red; whether they are interleaved; whether values are halves.
    int bgr, nhwc, half;
    Colour colour;
} PrepareArgs;

typedef struct {
    i64 whole, remainder, denominator;
} Position;

// Where output sample `i` of `samples` lies in a plane, as a fraction of integers. Colour differences lie on the left luma
// sample horizontally and half way vertically (`centre`).
DEVICE Position position(int start, int length, int samples, int factor, int centre, int i) {
    Position found;
    i64 denominator = 2 * (i64)samples;
    i64 inside = (2 * (i64)i + 1) * length - samples;
    i64 last = (i64)(length - 1) * denominator;
    inside = inside < 0 ? 0 : inside > last ? last : inside;
    i64 at = (i64)start * denominator + inside;
    if (centre) {
        at = 2 * at + denominator - factor * denominator;
        at = at < 0 ? 0 : at;
        denominator = 2 * denominator * factor;
    } else {
        denominator *= factor;
    }
    found.whole = at / denominator;
    found.remainder = at % denominator;
    found.denominator = denominator;
    return found;
}

// One thread an entry: the tables that `prepare` reads. 64-bit divisions are dear on a GPU; they are done once per column
// and row, not once per pixel.
KERNEL axes(AxesArgs a) {
    int sides = a.width + a.height;
    i64 entry = (i64)blockIdx.x * blockDim.x + threadIdx.x;
    if (entry >= (i64)a.count * 2 * sides) {
        return;
    }
    int item = (int)(entry / (2 * sides));
    int rest = (int)(entry % (2 * sides));
    int chroma = rest >= sides;
    int i = chroma ? rest - sides : rest;
    const Placed *crop = &a.crops[item];
    const Frame *frame = &a.frames[crop->frame];
    if (i < a.width) {
        if (i < crop->wide) {
            Position at = position(crop->x, crop->width, crop->wide, chroma ? frame->across : 1, 0, i);
            int last = (chroma ? frame->chroma_width : frame->width) - 1;
            Column *column = &a.columns[((i64)item * 2 + chroma) * a.width + i];
            column->left = (int)at.whole;
            column->right = at.whole < last ? (int)at.whole + 1 : last;
            column->weight = (float)at.remainder / (float)at.denominator;
        }
    } else if (i - a.width < crop->high && crop->wide > 0) {
        i -= a.width;
        Position at = position(crop->y, crop->height, crop->high, chroma ? frame->down : 1, 1, i);
        int last = (chroma ? frame->chroma_height : frame->height) - 1;
        Row *row = &a.rows[((i64)item * 2 + chroma) * a.height + i];
        row->upper = (int)at.whole;
        row->lower = at.whole < last ? (int)at.whole + 1 : last;
        row->weight = (int)((512 * at.remainder + at.denominator) / (2 * at.denominator));
    }
}

// A sample of one plane, in 1/256: rows first, in integers, then columns.
DEVICE float sample(const u8 *plane, int stride, int step, const Row *row, const Column *column) {
    const u8 *upper = plane + (i64)row->upper * stride;
    const u8 *lower = plane + (i64)row->lower * stride;
    int other = 256 - row->weight;
    int left = upper[column->left * step] * other + lower[column->left * step] * row->weight;
    int right = upper[column->right * step] * other + lower[column->right * step] * row->weight;
    return (float)left + ((float)right - (float)left) * column->weight;
}

// To half precision, nearest with ties to even, in integers, so that no header and no instruction is needed for it.
DEVICE u16 half_of(float value) {
    u32 bits = bits_of(value);
    u32 sign = bits >> 16 & 0x8000;
    u32 magnitude = bits & 0x7fffffff;
    if (magnitude > 0x7f800000) {
        return (u16)(sign | 0x7e00 | (magnitude >> 13 & 0x3ff));
    }
    // 65520 and above, infinity included.
    if (magnitude >= 0x477ff000) {
        return (u16)(sign | 0x7c00);
    }
    if (magnitude >= 0x38800000) {
        u32 rounded = magnitude + 0xfff + (magnitude >> 13 & 1);
        return (u16)(sign | (rounded - 0x38000000) >> 13);
    }
    if (magnitude < 0x33000000) {
        return (u16)sign;
    }
    // Subnormal halves count in 2^-24.
    u32 shift = 126 - (magnitude >> 23);
    u32 mantissa = (magnitude & 0x7fffff) | 0x800000;
    u32 whole = mantissa >> shift;
    u32 rest = mantissa & ((1u << shift) - 1);
    u32 tie = 1u << (shift - 1);
    return (u16)(sign | (whole + (rest > tie || (rest == tie && (whole & 1)))));
}

DEVICE float clamped(float value) {
    return value < 0.0f ? 0.0f : value > 255.0f ? 255.0f : value;
}

// One thread a pixel of the network input, padding included.
KERNEL prepare(PrepareArgs a) {
    int x = (int)(blockIdx.x * blockDim.x + threadIdx.x);
    int y = (int)(blockIdx.y * blockDim.y + threadIdx.y);
    int item = (int)blockIdx.z;
    if (x >= a.width || y >= a.height || item >= a.count) {
        return;
    }
    const Placed *crop = &a.crops[item];
    const Colour *c = &a.colour;
    int i = x - crop->left;
    int j = y - crop->top;
    float values[3];
    if (i >= 0 && i < crop->wide && j >= 0 && j < crop->high) {
        const Frame *frame = &a.frames[crop->frame];
        const Column *columns = a.columns + (i64)item * 2 * a.width + i;
        const Row *rows = a.rows + (i64)item * 2 * a.height + j;
        float luma = c->luma * sample(frame->planes[0], frame->strides[0], 1, rows, columns);
        // Without colour both differences are 128.
        float cb = 32768.0f;
        float cr = 32768.0f;
        if (frame->planes[1]) {
            columns += a.width;
            rows += a.height;
            cb = sample(frame->planes[1], frame->strides[1], frame->step, rows, columns);
            cr = sample(frame->planes[2], frame->strides[2], frame->step, rows, columns);
        }
        float red = luma + c->red_cr * cr + c->offset[0];
        float green = luma + c->green_cb * cb + c->green_cr * cr + c->offset[1];
        float blue = luma + c->blue_cb * cb + c->offset[2];
        values[a.bgr ? 2 : 0] = clamped(red) * c->gain[0] + c->bias[0];
        values[1] = clamped(green) * c->gain[1] + c->bias[1];
        values[a.bgr ? 0 : 2] = clamped(blue) * c->gain[2] + c->bias[2];
    } else {
        values[0] = c->pad[0];
        values[1] = c->pad[1];
        values[2] = c->pad[2];
    }
    i64 pixel = (i64)y * a.width + x;
    i64 plane = (i64)a.width * a.height;
    for (int channel = 0; channel < 3; channel++) {
        i64 at = 3 * plane * item + (a.nhwc ? pixel * 3 + channel : plane * channel + pixel);
        if (a.half) {
            ((u16 *)a.out)[at] = half_of(values[channel]);
        } else {
            ((float *)a.out)[at] = values[channel];
        }
    }
}
