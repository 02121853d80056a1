/* Fixed-point sums of deltas.  Twin: common/aggregate.py.
 * A double is rounded to the nearest integer, ties to the even one, as numpy's rint. */
#include <math.h>
#include <string.h>
#include "kernels.h"

enum { TILE = 1024, AHEAD = 32 };

/* Compiled for wider vectors too, and chosen at the load: the same operations on more
 * values at once, so the same bits.  It takes glibc; sanitizers cannot look at it. */
#if defined(__x86_64__) && defined(__GLIBC__) && !defined(__SANITIZE_ADDRESS__)
#define WIDE __attribute__((target_clones("avx2", "default")))
#else
#define WIDE
#endif

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

/* Return the largest magnitude by its bits: those of NaN are above all others. */
static inline float largest(const float *values, int64_t count) {
    int32_t most = 0;
    for (int64_t i = 0; i < count; i++) {
        int32_t bits;
        memcpy(&bits, &values[i], sizeof bits);
        bits &= INT32_C(0x7fffffff);
        most = bits > most ? bits : most;
    }
    float found;
    memcpy(&found, &most, sizeof found);
    return found;
}

/* Add round(values * scale) to a tile without an entry above limit; return whether. */
static inline int add_tile(int64_t *sum, const float *values, int64_t count,
                           double scale, double limit) {
    double most = largest(values, count);
    if (!(most <= limit)) return 0;
    if (most * fabs(scale) < MOST) {
        for (int64_t i = 0; i < count; i++) sum[i] += small_fixed((double)values[i] * scale);
    } else {
        for (int64_t i = 0; i < count; i++) sum[i] += fixed((double)values[i] * scale);
    }
    return 1;
}

/* Add round(values * scale) everywhere and return 1; where a value is above limit or
 * NaN, take off again what was added, and return 0. */
EXPORT WIDE int64_t fp_add_dense(int64_t *sum, const float *values, int64_t size,
                                 double scale, double limit) {
    int64_t start = 0;
    for (; start < size; start += TILE) {
        int64_t count = size - start < TILE ? size - start : TILE;
        if (!add_tile(sum + start, values + start, count, scale, limit)) break;
    }
    if (start >= size) return 1;
    while (start > 0) {
        start -= TILE;
        add_tile(sum + start, values + start, TILE, -scale, limit);
    }
    return 0;
}
