/* Shared by all kernels.  Every function is a twin of a numpy function, which is the
 * reference: equal arguments give equal bits.  Integers, and doubles that hold them
 * exactly, so no compiler flag may change a result (-ffp-contract=off all the same).
 * A kernel checks what it indexes with; it returns 0, or a number >= 0 that it counts,
 * and BAD_INDEX, CUT_OFF or NO_MEMORY instead.  The sizes of its arrays are true:
 * library.py checks them.  Nothing here keeps state but one table of
 * constants, which is filled at the load. */
#ifndef FEDPRUNE_KERNELS_H
#define FEDPRUNE_KERNELS_H

#include <stdint.h>

#define EXPORT __attribute__((visibility("default")))

/* As in interface.py: one more wherever the arguments of a kernel change. */
enum { INTERFACE = 3 };

enum { BAD_INDEX = -1, CUT_OFF = -2, NO_MEMORY = -3 };

/* Adaptive model of a run of symbols: entropy/models.py. */
typedef struct {
    int64_t symbols;      /* size of the alphabet, 2..256 */
    int64_t parts;        /* parts of a context, 1..3 */
    int64_t sizes[3];     /* values of each part */
    int64_t root;         /* expected share of a one, in 2^-24, of bits; < 0: symbols */
    int64_t lanes;        /* lanes of the message */
} model_spec;

/* Return whether these are rising bounds of parts of size values together. */
static inline int are_bounds(const int64_t *bounds, int64_t parts, int64_t size) {
    int rising = parts >= 0 && bounds[0] == 0 && bounds[parts] == size;
    for (int64_t p = 0; p < parts && rising; p++) rising = bounds[p] <= bounds[p + 1];
    return rising;
}

/* End of the block of a run that begins at start: models.py, blocks(). */
int64_t block_end(int64_t start, int64_t count, int64_t lanes);

#endif
