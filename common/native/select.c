/* Selection of the entries of a delta.  Twin: methods/choice.py.
 * Floats that are not negative are ordered as their bit patterns, so a threshold is found
 * by counting: the high halves of the patterns, then the bytes of those that tie. */
#include <stdlib.h>
#include <string.h>
#include "kernels.h"

enum { HIGH = 1 << 15, BYTE = 256, SOME = 1024 };

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

/* Write the rising positions of the count largest magnitudes, of equals the first. */
EXPORT int64_t fp_largest(const float *values, int64_t num, int64_t count, int64_t *out) {
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
        for (int64_t i = 0; i < kept && found >= 0; i++)
            if (is_kept(&c, pattern(of_some, i))) out[found++] = some[i];
    }
    free(of_some);
    free(some);
    free(high);
    return found;
}

/* Candidates for the entries that are sent. */
typedef struct {
    int64_t num;
    const float *energy;
    const uint32_t *rows, *columns;      /* of each */
    uint8_t *chosen;                     /* 1 = is sent; replaced */
    float *scores;                       /* room */
} pool;

/* Bits of a position by its row and by its column, and the chosen of each. */
typedef struct {
    int64_t rows, columns;
    const float *row_bits, *column_bits;
    int64_t *row_counts, *column_counts; /* added to */
} grid;

static uint32_t highest(const uint32_t *numbers, int64_t count) {
    uint32_t found = 0;
    for (int64_t i = 0; i < count; i++) found = numbers[i] > found ? numbers[i] : found;
    return found;
}

/* Fill the scores of some candidates: energy for their bits. */
static int64_t score_some(const pool *p, const grid *g, float value_bits, int64_t start,
                          int64_t count) {
    const uint32_t *rows = p->rows + start, *columns = p->columns + start;
    const float *energy = p->energy + start;
    float *restrict scores = p->scores + start;
    if (highest(rows, count) >= g->rows || highest(columns, count) >= g->columns) return BAD_INDEX;
    for (int64_t i = 0; i < count; i++)
        scores[i] = g->row_bits[rows[i]] + g->column_bits[columns[i]];
    for (int64_t i = 0; i < count; i++)
        scores[i] = energy[i] / (value_bits + (scores[i] > 0 ? scores[i] : 0));
    return 0;
}

/* Mark what is kept, and count it; return how many changed. */
static int64_t mark(const pool *p, const grid *g, cut c) {
    int64_t changed = 0, in_row = 0;
    uint32_t row = p->rows[0];
    for (int64_t i = 0; i < p->num; i++) {
        uint8_t keep = is_kept(&c, pattern(p->scores, i));
        changed += keep ^ p->chosen[i];
        p->chosen[i] = keep;
        g->column_counts[p->columns[i]] += keep;
        if (p->rows[i] != row) {
            g->row_counts[row] += in_row;
            in_row = 0;
            row = p->rows[i];
        }
        in_row += keep;
    }
    g->row_counts[row] += in_row;
    return changed;
}

/* Choose the count candidates of the most energy for their bits; return how many
 * changed. */
EXPORT int64_t fp_rate_step(const pool *p, const grid *g, float value_bits, int64_t count) {
    if (count < 1 || count > p->num || p->num > UINT32_MAX) return BAD_INDEX;
    uint32_t *high = calloc(HIGH, sizeof *high);
    int64_t found = 0;
    cut c;
    if (!high) return NO_MEMORY;
    for (int64_t start = 0; start < p->num && !found; start += SOME) {
        int64_t some = p->num - start < SOME ? p->num - start : SOME;
        found = score_some(p, g, value_bits, start, some);
        for (int64_t i = start; i < start + some && !found; i++)
            high[pattern(p->scores, i) >> 16]++;
    }
    if (!found) found = find_cut(p->scores, p->num, count, high, &c);
    if (!found) found = mark(p, g, c);
    free(high);
    return found;
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
