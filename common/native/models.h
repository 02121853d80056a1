/* Adaptive context models: entropy/models.py. */
#ifndef FEDPRUNE_MODELS_H
#define FEDPRUNE_MODELS_H

#include <stddef.h>
#include "kernels.h"

enum { LEVELS = 4, BIT_SHARES = 15, SYMBOL_SHARES = 13 };

/* Counts and shares of one level: the contexts of the first parts. */
typedef struct {
    int64_t contexts;
    double *counts;       /* [contexts][symbols] */
    double *totals;       /* [contexts] */
    double *shares;       /* [contexts][symbols], in 2^-24; of the block in stamps */
    int32_t *stamps;      /* [contexts]: the block that the shares were computed for */
} level;

typedef struct {
    model_spec spec;
    int bits;             /* precision of the shares */
    int of_bits;          /* symbols are bits: a share of a one, not a table */
    int depth;            /* levels: one for all contexts, one for each part */
    level levels[LEVELS];
    uint32_t *pairs;      /* [leaves][symbols]: (share << 16) + shares in front; 0 = not met */
    uint32_t *fresh[4];   /* [leaves][symbols]: symbols of this block, at places modulo 4,
                           * as adding to one cell again and again is slow */
    int64_t *touched;     /* leaves of this block */
    int64_t num_touched;
    int32_t block;
    void *memory;
} model;

/* Return the contexts of the first parts, or BAD_INDEX where they are too many. */
int64_t model_contexts(const model_spec *spec, int64_t parts);
int64_t model_open(model *m, const model_spec *spec);
void model_close(model *m);
/* Fill the pairs of a leaf that this block has not met. */
void model_touch(model *m, int64_t leaf);
/* Count the symbols of the block, and begin the next. */
void model_learn(model *m);

/* Return the pairs of a leaf for this block; width is the number of symbols. */
static inline const uint32_t *model_pairs(model *m, int64_t leaf, int64_t width) {
    const uint32_t *pairs = m->pairs + leaf * width;
    if (__builtin_expect(!pairs[1], 0)) model_touch(m, leaf);
    return pairs;
}

#endif
