/* The entropy coder: shares of the symbols of a run, and rANS in lanes.
 * Twins: entropy/coder.py, entropy/rans.py. */
#include <string.h>
#include "models.h"

#define LOW 65536u        /* the smallest state */

enum { SOME = 512 };      /* symbols whose leaves are computed at a time */

/* Fill leaves[count] with the contexts of symbols from start on; a part that is NULL is
 * 0 everywhere.  Return the largest. */
static uint32_t some_leaves(const model_spec *spec, const uint8_t *const *parts,
                            int64_t start, int64_t count, uint32_t *leaves) {
    uint32_t largest = 0;
    for (int64_t i = 0; i < count; i++) leaves[i] = parts[0] ? parts[0][start + i] : 0;
    for (int64_t k = 1; k < spec->parts; k++) {
        uint32_t size = (uint32_t)spec->sizes[k];
        const uint8_t *part = parts[k] ? parts[k] + start : NULL;
        if (part) {
            for (int64_t i = 0; i < count; i++) leaves[i] = leaves[i] * size + part[i];
        } else {
            for (int64_t i = 0; i < count; i++) leaves[i] *= size;
        }
    }
    for (int64_t i = 0; i < count; i++) largest = leaves[i] > largest ? leaves[i] : largest;
    return largest;
}

static uint8_t largest_symbol(const uint8_t *symbols, int64_t count) {
    uint8_t largest = 0;
    for (int64_t i = 0; i < count; i++) largest = symbols[i] > largest ? symbols[i] : largest;
    return largest;
}

/* Add how often each symbol stands in each context to counts[2][leaves][symbols]: of
 * even places, of odd ones. */
EXPORT int64_t fp_tally(const model_spec *spec, const uint8_t *const *parts,
                        const uint8_t *symbols, int64_t count, int64_t *counts) {
    int64_t num_leaves = 1, width = spec->symbols;
    uint32_t leaves[SOME];
    if (spec->parts < 1 || spec->parts > 3 || width < 1) return BAD_INDEX;
    for (int64_t k = 0; k < spec->parts; k++) num_leaves *= spec->sizes[k];
    for (int64_t start = 0; start < count; start += SOME) {
        int64_t some = count - start < SOME ? count - start : SOME;
        if (some_leaves(spec, parts, start, some, leaves) >= num_leaves) return BAD_INDEX;
        if (largest_symbol(symbols + start, some) >= width) return BAD_INDEX;
        for (int64_t i = 0; i < some; i++)
            counts[((i & 1) * num_leaves + leaves[i]) * width + symbols[start + i]]++;
    }
    return 0;
}

/* Fill pairs[count] with (share << 16) + shares in front of symbols of one block. */
static int64_t block_pairs(model *m, const uint8_t *const *parts, const uint8_t *symbols,
                           int64_t start, int64_t end, uint32_t *pairs) {
    int64_t width = m->spec.symbols;
    uint32_t leaves[SOME];
    for (; start < end; start += SOME) {
        int64_t some = end - start < SOME ? end - start : SOME;
        if (some_leaves(&m->spec, parts, start, some, leaves) >= model_leaves(m)) return BAD_INDEX;
        if (largest_symbol(symbols + start, some) >= width) return BAD_INDEX;
        for (int64_t i = 0; i < some; i++) {
            int64_t cell = (int64_t)leaves[i] * width + symbols[start + i];
            uint32_t pair = m->pairs[cell];
            if (__builtin_expect(!pair, 0)) {
                model_touch(m, leaves[i]);
                pair = m->pairs[cell];
            }
            pairs[start + i] = pair;
            m->fresh[i & 3][cell]++;
        }
    }
    return 0;
}

/* Fill pairs[count] with (share << 16) + shares in front of each symbol. */
EXPORT int64_t fp_pairs(const model_spec *spec, const uint8_t *const *parts,
                        const uint8_t *symbols, int64_t count, uint32_t *pairs) {
    model m;
    int64_t error = model_open(&m, spec);
    if (error) return error;
    for (int64_t start = 0; start < count && !error;) {
        int64_t end = block_end(start, count, spec->lanes);
        error = block_pairs(&m, parts, symbols, start, end, pairs);
        model_learn(&m);
        start = end;
    }
    model_close(&m);
    return error;
}

/* ceil(2^64 / share): the high half of its product with a state is their quotient, as
 * the state is below 2^32 and the share below 2^16 (Granlund and Montgomery 1994). */
static uint64_t inverses[1 << 16];

/* Called once, when the library is loaded. */
EXPORT void fp_open(void) {
    for (uint64_t share = 2; share < 1 << 16; share++)
        inverses[share] = UINT64_MAX / share + 1;
}

static inline uint32_t divide(uint32_t x, uint32_t share) {
    if (share == 1) return x;
    return (uint32_t)((unsigned __int128)x * inverses[share] >> 64);
}

/* Push one symbol into a state; return the new state. */
static inline uint32_t push(uint32_t x, uint32_t pair, int bits, uint16_t **words) {
    uint32_t share = pair >> 16;
    if (x >= (uint64_t)share << (32 - bits)) {
        *--*words = (uint16_t)x;
        x >>= 16;
    }
    return x + divide(x, share) * ((1u << bits) - share) + (pair & 0xFFFFu);
}

/* Push a block, last symbol first. */
static uint16_t *push_block(const uint32_t *pairs, int64_t count, int bits,
                            uint32_t *states, int64_t lanes, uint16_t *words) {
    int64_t lane = (count - 1) % lanes;
    for (int64_t i = count - 1; i >= 0; i--) {
        states[lane] = push(states[lane], pairs[i], bits, &words);
        lane = lane ? lane - 1 : lanes - 1;
    }
    return words;
}

enum { BLOCKS = 4096 };   /* of a run: 2^31 symbols and more */

/* Push a run, last block first.  Words fill the room of count words that ends at end;
 * return how many. */
EXPORT int64_t fp_push_run(const uint32_t *pairs, int64_t count, int64_t bits,
                           uint32_t *states, int64_t lanes, uint16_t *end) {
    int64_t bounds[BLOCKS], blocks = 0;
    uint16_t *words = end;
    if (lanes < 1 || bits < 1 || bits > 16) return BAD_INDEX;
    for (int64_t start = 0; start < count; blocks++) {
        if (blocks == BLOCKS) return NO_MEMORY;
        bounds[blocks] = start;
        start = block_end(start, count, lanes);
    }
    for (int64_t b = blocks - 1, stop = count; b >= 0; stop = bounds[b--])
        words = push_block(pairs + bounds[b], stop - bounds[b], (int)bits, states, lanes, words);
    return end - words;
}

/* The states and words of a message while they are read. */
typedef struct {
    uint32_t *states;
    int64_t lanes;
    const uint16_t *words;
    int64_t count;        /* words */
    int64_t next;
} stream;

static inline int64_t refill(stream *r, int64_t lane) {
    if (r->states[lane] >= LOW) return 0;
    if (r->next >= r->count) return CUT_OFF;
    r->states[lane] = r->states[lane] << 16 | r->words[r->next++];
    return 0;
}

/* Return the symbol of a slot: the last whose shares in front are not above it. */
static inline int64_t find(const uint32_t *pairs, int64_t symbols, uint32_t slot) {
    int64_t low = 0, high = symbols;
    while (high - low > 1) {
        int64_t middle = (low + high) / 2;
        if ((pairs[middle] & 0xFFFFu) <= slot) low = middle;
        else high = middle;
    }
    return low;
}

static inline int64_t pop(stream *r, int64_t lane, const uint32_t *pairs, const model *m) {
    int bits = m->bits;
    uint32_t x = r->states[lane], slot = x & ((1u << bits) - 1);
    int64_t symbol = m->of_bits ? slot < (pairs[1] >> 16) : find(pairs, m->spec.symbols, slot);
    uint32_t pair = pairs[symbol];
    r->states[lane] = (pair >> 16) * (x >> bits) + slot - (pair & 0xFFFFu);
    return symbol;
}

/* Fill out with the symbols of one block, whose first belongs to the first lane. */
static int64_t pop_block(stream *r, model *m, const uint8_t *const *parts, int64_t start,
                         int64_t end, uint8_t *out) {
    int64_t width = m->spec.symbols, lane = 0;
    uint32_t leaves[SOME];
    for (; start < end; start += SOME) {
        int64_t some = end - start < SOME ? end - start : SOME;
        if (some_leaves(&m->spec, parts, start, some, leaves) >= model_leaves(m)) return BAD_INDEX;
        for (int64_t i = 0; i < some; i++) {
            int64_t symbol = pop(r, lane, model_pairs(m, leaves[i]), m);
            out[start + i] = (uint8_t)symbol;
            m->fresh[i & 3][leaves[i] * width + symbol]++;
            if (refill(r, lane)) return CUT_OFF;
            lane = lane + 1 == r->lanes ? 0 : lane + 1;
        }
    }
    return 0;
}

/* Fill out[count] with symbols; *next is the word that is read next. */
EXPORT int64_t fp_pop_run(const model_spec *spec, const uint8_t *const *parts, int64_t count,
                          uint32_t *states, const uint16_t *words, int64_t num_words,
                          int64_t *next, uint8_t *out) {
    model m;
    int64_t error = model_open(&m, spec);
    if (error) return error;
    stream r = {states, spec->lanes, words, num_words, *next};
    for (int64_t start = 0; start < count && !error;) {
        int64_t end = block_end(start, count, spec->lanes);
        error = pop_block(&r, &m, parts, start, end, out);
        model_learn(&m);
        start = end;
    }
    *next = r.next;
    model_close(&m);
    return error;
}
