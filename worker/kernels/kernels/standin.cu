// In a detector's place where a bench needs one: the picture's brightest cells as boxes. Takes a network input as
// `prepare` writes it (NCHW, f32) and gives what `suppress` reads; `effort` rounds stand for the layers of a model.

typedef struct {
    const float *tensor;
    // `cells` of each item, across * down.
    Box *boxes;
    int *counts;
    int items, width, height;
    // Side of a cell in pixels.
    int cell;
    int effort;
} StandinArgs;

KERNEL standin(StandinArgs a) {
    int across = a.width / a.cell;
    int cells = across * (a.height / a.cell);
    int i = (int)(blockIdx.x * blockDim.x + threadIdx.x);
    int item = (int)blockIdx.y;
    if (item >= a.items || i >= cells) {
        return;
    }
    int x = i % across * a.cell;
    int y = i / across * a.cell;
    const float *plane = a.tensor + (i64)3 * a.width * a.height * item;
    float sum = 0.0f;
    for (int round = 0; round < a.effort; round++) {
        for (int j = 0; j < a.cell * a.cell; j++) {
            sum = sum * 0.5f + plane[(i64)(y + j / a.cell) * a.width + x + j % a.cell];
        }
    }
    Box box;
    box.score = sum;
    box.x = (float)x;
    box.y = (float)y;
    // Neighbours overlap, so that there is something to suppress.
    box.w = (float)(2 * a.cell);
    box.h = (float)(2 * a.cell);
    box.label = (u32)(i % 3);
    a.boxes[(i64)item * cells + i] = box;
    if (i == 0) {
        a.counts[item] = cells;
    }
}
