/* Rows, columns and positions of a network in its flat vector.
 * Twins: codec/layout.py, delta/positions.py. */
#include <string.h>
#include "kernels.h"

/* One tensor: rows of columns of depth positions; TensorLayout. */
typedef struct {
    int64_t start, row, rows, columns, depth;
} tensor;

enum { SCORES = 64, MIDDLE = 8 };

static int64_t mean_class(const uint8_t *columns, int64_t count) {
    int64_t sum = 0, filled = 0;
    for (int64_t c = 0; c < count; c++) {
        sum += columns[c];
        filled += columns[c] != 0;
    }
    return filled ? sum / filled : 0;
}

static uint8_t score(int64_t row, int64_t column, int64_t mean) {
    int64_t found = row + column - mean + MIDDLE;
    if (row == 0 || column == 0) return 0;
    return (uint8_t)(found < 1 ? 1 : found > SCORES - 1 ? SCORES - 1 : found);
}

/* Fill one row whose columns have these scores. */
static void fill_row(uint8_t *out, const uint8_t *scores, int64_t columns, int64_t depth) {
    if (depth == 1) {
        memcpy(out, scores, (size_t)columns);
        return;
    }
    /* Eight at a time, over the columns behind: those are written later. */
    int64_t c = 0, most = (depth + 7) / 8 * 8;
    for (; (columns - c) * depth >= most; c++, out += depth) {
        uint64_t eight = scores[c] * UINT64_C(0x0101010101010101);
        for (int64_t d = 0; d < depth; d += 8) memcpy(out + d, &eight, 8);
    }
    for (; c < columns; c++, out += depth) memset(out, scores[c], (size_t)depth);
}

/* Fill out[size] with the score of each position; no columns: the class of its row.
 * table[256][width]: scores of the columns of a tensor in a row of each class. */
EXPORT int64_t fp_scores(const tensor *tensors, int64_t count, const uint8_t *rows,
                         int64_t num_rows, const uint8_t *columns, int64_t num_columns,
                         uint8_t *table, int64_t width, uint8_t *out, int64_t size) {
    for (const tensor *t = tensors; t < tensors + count; t++) {
        int64_t length = t->columns * t->depth, mean = 0;
        uint8_t known[256] = {0};
        if (t->row + t->rows > num_rows || t->start + t->rows * length > size) return BAD_INDEX;
        if (columns && (t->columns > width || t->columns > num_columns)) return BAD_INDEX;
        if (columns) mean = mean_class(columns, t->columns);
        for (int64_t r = 0; r < t->rows; r++) {
            uint8_t row = rows[t->row + r], *to = out + t->start + r * length;
            uint8_t *scores = table + row * width;
            if (!columns) {
                memset(to, row, (size_t)length);
                continue;
            }
            for (int64_t c = 0; c < t->columns && !known[row]; c++)
                scores[c] = score(row, columns[c], mean);
            known[row] = 1;
            fill_row(to, scores, t->columns, t->depth);
        }
        if (columns) columns += t->columns;
        num_columns -= t->columns;
    }
    return 0;
}

/* Add the number of positions of each column to counts; positions rise. */
EXPORT int64_t fp_column_counts(const tensor *tensors, int64_t count,
                                const int64_t *positions, int64_t num, int64_t *counts,
                                int64_t columns) {
    int64_t i = 0;
    for (const tensor *t = tensors; t < tensors + count; t++) {
        int64_t length = t->columns * t->depth, row = t->start;
        int64_t end = t->start + t->rows * length;
        if (columns < t->columns) return BAD_INDEX;
        for (; i < num && positions[i] < end; i++) {
            while (positions[i] >= row + length) row += length;
            if (positions[i] < row) return BAD_INDEX;
            uint32_t within = (uint32_t)(positions[i] - row);
            counts[t->depth == 1 ? within : within / (uint32_t)t->depth]++;
        }
        counts += t->columns;
        columns -= t->columns;
    }
    return i == num ? 0 : BAD_INDEX;
}

/* Return the last bit of each of eight bytes, as the bits of one: a mask holds 0 and 1. */
static inline uint64_t eight_bits(const uint8_t *mask) {
    uint64_t eight;
    memcpy(&eight, mask, 8);
    return (eight & UINT64_C(0x0101010101010101)) * UINT64_C(0x0102040810204080) >> 56;
}

/* Write the numbers of the bytes that are 1, of 0 and 1, to out; return how many. */
EXPORT int64_t fp_positions(const uint8_t *mask, int64_t size, int64_t *out) {
    int64_t *to = out, i = 0;
    for (; i + 64 <= size; i += 64) {
        uint64_t bits = 0;
        for (int64_t k = 0; k < 64; k += 8) bits |= eight_bits(mask + i + k) << k;
        for (; bits; bits &= bits - 1) *to++ = i + __builtin_ctzll(bits);
    }
    for (; i < size; i++) {
        if (mask[i] & 1) *to++ = i;
    }
    return to - out;
}

/* Copy the rows that are open one after another; return their bytes. */
EXPORT int64_t fp_gather_rows(const uint8_t *from, int64_t size, const int64_t *bounds,
                              int64_t rows, const uint8_t *open, uint8_t *out) {
    uint8_t *to = out;
    if (!are_bounds(bounds, rows, size)) return BAD_INDEX;
    for (int64_t r = 0; r < rows; r++) {
        if (!open[r]) continue;
        memcpy(to, from + bounds[r], (size_t)(bounds[r + 1] - bounds[r]));
        to += bounds[r + 1] - bounds[r];
    }
    return to - out;
}

/* Spread the count bytes that fp_gather_rows gathered; other rows become their fill. */
EXPORT int64_t fp_spread_rows(const uint8_t *from, int64_t count, const int64_t *bounds,
                              int64_t rows, const uint8_t *open, const uint8_t *fill,
                              uint8_t *out, int64_t size) {
    const uint8_t *next = from, *end = from + count;
    if (!are_bounds(bounds, rows, size)) return BAD_INDEX;
    for (int64_t r = 0; r < rows; r++) {
        size_t length = (size_t)(bounds[r + 1] - bounds[r]);
        if (open[r]) {
            if ((size_t)(end - next) < length) return BAD_INDEX;
            memcpy(out + bounds[r], next, length);
            next += length;
        } else {
            memset(out + bounds[r], fill[r], length);
        }
    }
    return next == end ? 0 : BAD_INDEX;
}
