/* Fixed-point sums of deltas.  Twin: common/aggregate.py.
 * A double is rounded to the nearest integer, ties to the even one, as numpy's rint. */
#include <math.h>
#include "kernels.h"

enum { TILE = 4096, AHEAD = 32 };

#if defined(__GNUC__)
#define FETCH(place) __builtin_prefetch((place), 1)
#else
#define FETCH(place) ((void)0)
#endif

/* Below 2^51 adding and taking off 1.5 * 2^52 rounds a double, without a call. */
static const double MAGIC = 6755399441055744.0, MOST = 2251799813685248.0;

static inline int64_t small_fixed(double value) {
    union { double value; int64_t bits; } shifted = {value + MAGIC};
    return shifted.bits - INT64_C(0x4338000000000000);
}

static inline int64_t fixed(double value) {
    return fabs(value) < MOST ? small_fixed(value) : (int64_t)nearbyint(value);
}

/* Add round(values * scale) at rising positions. */
EXPORT int64_t fp_add_sparse(int64_t *sum, int64_t size, const int64_t *positions,
                             const float *values, int64_t count, double scale) {
    for (int64_t i = 0; i < count; i++)
        if (positions[i] < 0 || positions[i] >= size) return BAD_INDEX;
    /* A sum is larger than any cache: what comes AHEAD is fetched meanwhile. */
    int64_t near = count > AHEAD ? count - AHEAD : 0;
    for (int64_t i = 0; i < near; i++) {
        FETCH(&sum[positions[i + AHEAD]]);
        sum[positions[i]] += fixed((double)values[i] * scale);
    }
    for (int64_t i = near; i < count; i++) sum[positions[i]] += fixed((double)values[i] * scale);
    return 0;
}

/* Add round(values * scale) everywhere. */
EXPORT int64_t fp_add_dense(int64_t *sum, const float *values, int64_t size, double scale) {
    for (int64_t start = 0; start < size; start += TILE) {
        int64_t end = start + TILE < size ? start + TILE : size;
        float largest = 0;
        for (int64_t i = start; i < end; i++) {
            float magnitude = fabsf(values[i]);
            largest = magnitude > largest ? magnitude : largest;
        }
        if ((double)largest * scale < MOST) {
            for (int64_t i = start; i < end; i++) sum[i] += small_fixed((double)values[i] * scale);
        } else {
            for (int64_t i = start; i < end; i++) sum[i] += fixed((double)values[i] * scale);
        }
    }
    return 0;
}
