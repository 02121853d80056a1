/* Classes of rows, columns and numbers.  Twin: entropy/contexts.py. */
#include <string.h>
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

/* The bit pattern of the size of a float, cut. */
static inline int64_t size_steps(const float *values, int64_t i, int64_t shift) {
    uint32_t bits;
    memcpy(&bits, values + i, 4);
    return (bits & 0x7FFFFFFFu) >> shift;
}

/* Fill out with the class of each float of a part: 0 of zero, else by its distance from
 * the mean of some of the part. */
static void part_classes(const float *values, int64_t count, int64_t shift, int64_t classes,
                         int64_t sample, uint8_t *out) {
    int64_t every = (count + sample - 1) / sample, total = 0, seen = 0;
    for (int64_t i = 0; i < count; i += every) {
        total += size_steps(values, i, shift);
        seen += size_steps(values, i, shift) != 0;
    }
    int32_t middle = (int32_t)(total / (seen ? seen : 1) - classes / 2);
    for (int64_t i = 0; i < count; i++) {
        int32_t steps = (int32_t)size_steps(values, i, shift), found = steps - middle;
        found = found < 1 ? 1 : found;
        found = found > classes - 1 ? (int32_t)classes - 1 : found;
        out[i] = (uint8_t)(steps ? found : 0);
    }
}

/* Fill out[size] with the class of each float, part by part. */
EXPORT int64_t fp_float_classes(const float *values, int64_t size, const int64_t *bounds,
                                int64_t parts, int64_t shift, int64_t classes, int64_t sample,
                                uint8_t *out) {
    if (shift < 16 || shift > 23 || classes < 2 || classes > 256 || sample < 1) return BAD_INDEX;
    if (!are_bounds(bounds, parts, size)) return BAD_INDEX;
    for (int64_t p = 0; p < parts; p++)
        part_classes(values + bounds[p], bounds[p + 1] - bounds[p], shift, classes, sample,
                     out + bounds[p]);
    return 0;
}
