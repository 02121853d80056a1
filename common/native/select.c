/* Selection of the entries of a delta.  Twin: methods/choice.py.
 * Floats that are not negative are ordered as their bit patterns, so a threshold is found
 * by counting: the high half of the patterns, then the low half of those that tie. */
#include <stdlib.h>
#include <string.h>
#include "kernels.h"

enum { HALF = 1 << 16, HIGH = 1 << 15 };

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

/* Find the cut of the count largest magnitudes, 1 <= count <= num, from the histogram of
 * their high halves; low[HALF] is overwritten. */
static cut find_cut(const float *values, int64_t num, int64_t count, const uint32_t *high,
                    uint32_t *low) {
    cut found = {0, count};
    uint32_t bin = descend(high, HIGH, &found.ties);
    memset(low, 0, HALF * sizeof *low);
    for (int64_t i = 0; i < num; i++) {
        uint32_t bits = pattern(values, i);
        if (bits >> 16 == bin) low[bits & (HALF - 1)]++;
    }
    found.threshold = bin << 16;
    found.threshold |= descend(low, HALF, &found.ties);
    return found;
}

/* Write the rising positions of the count largest magnitudes, of equals the first. */
EXPORT int64_t fp_largest(const float *values, int64_t num, int64_t count, int64_t *out) {
    uint32_t *high = calloc(2 * HIGH + HALF, sizeof *high);
    int64_t *to = out;
    if (!high) return NO_MEMORY;
    if (count < 1 || count > num || num > UINT32_MAX) { free(high); return BAD_INDEX; }
    for (int64_t i = 0; i < num; i++) high[(i & 1) * HIGH + (pattern(values, i) >> 16)]++;
    for (int64_t b = 0; b < HIGH; b++) high[b] += high[HIGH + b];
    cut c = find_cut(values, num, count, high, high + 2 * HIGH);
    for (int64_t i = 0; i < num; i++) {
        uint32_t bits = pattern(values, i);
        if (bits > c.threshold || (bits == c.threshold && c.ties-- > 0)) *to++ = i;
    }
    free(high);
    return to - out;
}

/* Candidates for the entries that are sent. */
typedef struct {
    int64_t num;
    const float *energy;
    const uint32_t *rows, *columns;      /* of each */
    uint8_t *chosen;                     /* 1 = is sent; replaced */
    float *scores;                       /* room */
} pool;

/* Choose the count candidates of the most energy for their bits.
 * row_bits, column_bits: bits of a position by its row and by its column.
 * row_counts, column_counts: the chosen of each, added to.  Return how many changed. */
EXPORT int64_t fp_rate_step(const pool *p, const float *row_bits, const float *column_bits,
                            float value_bits, int64_t count, int64_t *row_counts,
                            int64_t *column_counts) {
    uint32_t *high = calloc(HIGH + HALF, sizeof *high);
    int64_t changed = 0;
    if (!high) return NO_MEMORY;
    if (count < 1 || count > p->num || p->num > UINT32_MAX) { free(high); return BAD_INDEX; }
    for (int64_t i = 0; i < p->num; i++) {
        float bits = row_bits[p->rows[i]] + column_bits[p->columns[i]];
        p->scores[i] = p->energy[i] / (value_bits + (bits > 0 ? bits : 0));
        high[pattern(p->scores, i) >> 16]++;
    }
    cut c = find_cut(p->scores, p->num, count, high, high + HIGH);
    for (int64_t i = 0; i < p->num; i++) {
        uint32_t bits = pattern(p->scores, i);
        uint8_t keep = bits > c.threshold || (bits == c.threshold && c.ties-- > 0);
        changed += keep != p->chosen[i];
        p->chosen[i] = keep;
        if (keep) {
            row_counts[p->rows[i]]++;
            column_counts[p->columns[i]]++;
        }
    }
    free(high);
    return changed;
}

/* Fill the row and the column of each rising position. */
EXPORT int64_t fp_places(const int64_t (*tensors)[5], int64_t count, const int64_t *positions,
                         int64_t num, uint32_t *rows, uint32_t *columns) {
    int64_t i = 0, before = 0;
    for (int64_t t = 0; t < count; t++) {
        int64_t depth = tensors[t][4], length = tensors[t][3] * depth;
        int64_t row = tensors[t][1], start = tensors[t][0];
        int64_t end = start + tensors[t][2] * length;
        for (; i < num && positions[i] < end; i++) {
            for (; positions[i] >= start + length; start += length) row++;
            if (positions[i] < start) return BAD_INDEX;
            uint32_t within = (uint32_t)(positions[i] - start);
            rows[i] = (uint32_t)row;
            columns[i] = (uint32_t)before + (depth == 1 ? within : within / (uint32_t)depth);
        }
        before += tensors[t][3];
    }
    return i == num ? 0 : BAD_INDEX;
}
