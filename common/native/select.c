/* Selection of the entries of a delta.  Twin: methods/choice.py.
 * Floats that are not negative are ordered as their bit patterns, so a threshold is found
 * by counting: the high halves of the patterns, then the bytes of those that tie. */
#include <stdlib.h>
#include <string.h>
#include "kernels.h"

enum { HIGH = 1 << 15, BYTE = 256 };

/* What is kept: patterns above the threshold, and the first ones that are equal. */
typedef struct {
    uint32_t threshold;
    int64_t ties;
} cut;

/* Go down a histogram until *left entries are above; take those off *left. */
static uint32_t descend(const uint32_t *histogram, uint32_t bins, int64_t *left) {
    uint32_t bin = bins - 1;
    while (bin > 0 && histogram[bin] < *left) *left -= histogram[bin--];
    return bin;
}

static inline uint32_t pattern(const float *values, int64_t i) {
    uint32_t bits;
    memcpy(&bits, values + i, 4);
    return bits & 0x7FFFFFFFu;
}

/* Find the cut of the count largest magnitudes, 1 <= count <= num, from the histogram
 * of their high halves. */
static int64_t find_cut(const float *values, int64_t num, int64_t count,
                        const uint32_t *high, cut *found) {
    int64_t left = count, ties = 0;
    uint32_t bin = descend(high, HIGH, &left), threshold = bin << 16;
    uint32_t *tying = malloc(((size_t)high[bin] + 1) * sizeof *tying);
    if (!tying) return NO_MEMORY;
    for (int64_t i = 0; i < num; i++) {
        uint32_t bits = pattern(values, i);
        tying[ties] = bits;
        ties += bits >> 16 == bin;
    }
    for (int shift = 8; shift >= 0; shift -= 8) {
        uint32_t bytes[BYTE] = {0};
        for (int64_t i = 0; i < ties; i++)
            if (tying[i] >> (shift + 8) == threshold >> (shift + 8)) bytes[tying[i] >> shift & 255]++;
        threshold |= descend(bytes, BYTE, &left) << shift;
    }
    free(tying);
    *found = (cut){threshold, left};
    return 0;
}

/* Return 1 for what is above the cut, and for the first that are equal. */
static inline uint8_t is_kept(cut *c, uint32_t bits) {
    uint8_t keep = bits > c->threshold;
    if (__builtin_expect(bits == c->threshold, 0)) keep = c->ties-- > 0;
    return keep;
}

/* Write the rising positions of the count largest magnitudes, of equals the first, and
 * their values. */
EXPORT int64_t fp_largest(const float *values, int64_t num, int64_t count, int64_t *out,
                          float *out_values) {
    if (count < 1 || count > num || num > UINT32_MAX) return BAD_INDEX;
    /* In four parts, as adding to one bin again and again is slow. */
    uint32_t *high = calloc(4 * HIGH, sizeof *high);
    int64_t left = count, kept = 0, found = NO_MEMORY;
    if (!high) return NO_MEMORY;
    for (int64_t i = 0; i < num; i++) high[(i & 3) * HIGH + (pattern(values, i) >> 16)]++;
    for (int64_t b = 0; b < HIGH; b++)
        high[b] += high[HIGH + b] + high[2 * HIGH + b] + high[3 * HIGH + b];
    uint32_t bin = descend(high, HIGH, &left);
    /* Those of the bin of the threshold and above, and room to write one more. */
    size_t room = (size_t)(count - left) + high[bin] + 1;
    uint32_t *some = malloc(room * sizeof *some);
    float *of_some = malloc(room * sizeof *of_some);
    if (some && of_some) {
        for (int64_t i = 0; i < num; i++) {
            some[kept] = (uint32_t)i;
            of_some[kept] = values[i];
            kept += pattern(values, i) >> 16 >= bin;
        }
        cut c;
        found = find_cut(of_some, kept, count, high, &c);
        for (int64_t i = 0; i < kept && found >= 0; i++) {
            if (!is_kept(&c, pattern(of_some, i))) continue;
            out_values[found] = of_some[i];
            out[found++] = some[i];
        }
    }
    free(of_some);
    free(some);
    free(high);
    return found;
}

/* Candidates for the entries that are sent, row by row. */
typedef struct {
    int64_t num, rows, columns;
    const int64_t *bounds;               /* of the candidates of each row, [rows + 1] */
    const float *energy;
    const uint32_t *column;              /* of each */
    uint8_t *chosen;                     /* 1 = is sent; replaced */
    float *scores;                       /* room */
} pool;

/* Fill the scores of the candidates of a row: energy for their bits. */
static int64_t score_row(const pool *p, int64_t row, float row_bits, const float *column_bits,
                         float value_bits) {
    int64_t start = p->bounds[row], count = p->bounds[row + 1] - start;
    const uint32_t *column = p->column + start;
    const float *energy = p->energy + start;
    float *restrict scores = p->scores + start;
    uint32_t last = 0;
    for (int64_t i = 0; i < count; i++) last = column[i] > last ? column[i] : last;
    if (last >= p->columns) return BAD_INDEX;
    for (int64_t i = 0; i < count; i++) scores[i] = row_bits + column_bits[column[i]];
    for (int64_t i = 0; i < count; i++)
        scores[i] = energy[i] / (value_bits + (scores[i] > 0 ? scores[i] : 0));
    return 0;
}

/* Mark what is kept, and add it to the counts; return how many changed. */
static int64_t mark(const pool *p, cut c, int64_t *row_counts, int64_t *column_counts) {
    int64_t changed = 0;
    for (int64_t row = 0; row < p->rows; row++) {
        int64_t in_row = 0;
        for (int64_t i = p->bounds[row]; i < p->bounds[row + 1]; i++) {
            uint8_t keep = is_kept(&c, pattern(p->scores, i));
            changed += keep ^ p->chosen[i];
            p->chosen[i] = keep;
            column_counts[p->column[i]] += keep;
            in_row += keep;
        }
        row_counts[row] += in_row;
    }
    return changed;
}

/* Choose the count candidates of the most energy for their bits.
 * row_bits, column_bits: bits of a position by its row and by its column.
 * row_counts, column_counts: the chosen of each, added to.  Return how many changed. */
EXPORT int64_t fp_rate_step(const pool *p, const float *row_bits, const float *column_bits,
                            float value_bits, int64_t count, int64_t *row_counts,
                            int64_t *column_counts) {
    if (count < 1 || count > p->num || p->num > UINT32_MAX) return BAD_INDEX;
    if (!are_bounds(p->bounds, p->rows, p->num)) return BAD_INDEX;
    uint32_t *high = calloc(HIGH, sizeof *high);
    int64_t found = 0;
    cut c;
    if (!high) return NO_MEMORY;
    for (int64_t row = 0; row < p->rows && !found; row++) {
        found = score_row(p, row, row_bits[row], column_bits, value_bits);
        for (int64_t i = p->bounds[row]; i < p->bounds[row + 1] && !found; i++)
            high[pattern(p->scores, i) >> 16]++;
    }
    if (!found) found = find_cut(p->scores, p->num, count, high, &c);
    if (!found) found = mark(p, c, row_counts, column_counts);
    free(high);
    return found;
}

/* Fill the column of each rising position. */
EXPORT int64_t fp_columns(const int64_t (*tensors)[5], int64_t count, const int64_t *positions,
                          int64_t num, uint32_t *columns) {
    int64_t i = 0, before = 0;
    for (int64_t t = 0; t < count; t++) {
        int64_t depth = tensors[t][4], length = tensors[t][3] * depth, start = tensors[t][0];
        int64_t end = start + tensors[t][2] * length;
        for (; i < num && positions[i] < end; i++) {
            while (positions[i] >= start + length) start += length;
            if (positions[i] < start) return BAD_INDEX;
            uint32_t within = (uint32_t)(positions[i] - start);
            columns[i] = (uint32_t)before + (depth == 1 ? within : within / (uint32_t)depth);
        }
        before += tensors[t][3];
    }
    return i == num ? 0 : BAD_INDEX;
}
