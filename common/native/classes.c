/* Classes of rows, columns and numbers.  Twin: entropy/contexts.py. */
#include "kernels.h"

enum { FINE = 8, EVEN = 20, DENSITIES = 25 };

static const int64_t MOST = INT64_C(1) << 53;   /* positions of a row */

/* floor(steps * log2(n)) of n >= 1, by straight lines between powers. */
static inline int64_t log2_steps(uint64_t number, int64_t steps) {
    int64_t whole = 63 - __builtin_clzll(number | 1);
    int64_t fraction = (int64_t)(number << FINE >> whole) - (1 << FINE);
    return whole * steps + (fraction * steps >> FINE);
}

/* Numbers are 1..2^55. */
EXPORT int64_t fp_log2_steps(const int64_t *numbers, int64_t count, int64_t steps, int64_t *out) {
    for (int64_t i = 0; i < count; i++) {
        if (numbers[i] < 1 || numbers[i] > INT64_C(1) << 55) return BAD_INDEX;
        out[i] = log2_steps((uint64_t)numbers[i], steps);
    }
    return 0;
}

static int64_t density_class(int64_t count, int64_t length, int64_t resolution) {
    int64_t full = (DENSITIES - 2 + resolution - 1) / resolution + 1;
    if (count == 0) return 0;
    if (count == length) return full;
    int64_t odds = log2_steps((uint64_t)(2 * count + 1), 2);
    int64_t found = EVEN + odds - log2_steps((uint64_t)(2 * (length - count) + 1), 2);
    found = found < 1 ? 1 : found > DENSITIES - 2 ? DENSITIES - 2 : found;
    return (found + resolution - 1) / resolution;
}

/* Fill out with the class of each row by its odds of an entry. */
EXPORT int64_t fp_density_classes(const int64_t *counts, const int64_t *lengths, int64_t rows,
                                  int64_t resolution, uint8_t *out) {
    if (resolution < 1) return BAD_INDEX;
    for (int64_t r = 0; r < rows; r++) {
        if (counts[r] < 0 || counts[r] > lengths[r] || lengths[r] > MOST) return BAD_INDEX;
        out[r] = (uint8_t)density_class(counts[r], lengths[r], resolution);
    }
    return 0;
}
