/* The entropy coder: shares of the symbols of a run, and rANS in lanes.
 * Twins: entropy/coder.py, entropy/rans.py. */
#include <string.h>
#include "models.h"

#define LOW 65536u        /* the smallest state */

/* Return the leaf of symbol i, or one too large; a part without values is 0. */
static inline int64_t leaf_at(const model_spec *s, const uint8_t *const *parts, int64_t i) {
    int64_t leaf = 0;
    for (int64_t k = 0; k < s->parts; k++)
        leaf = leaf * s->sizes[k] + (parts[k] ? parts[k][i] : 0);
    return leaf;
}

/* Add how often each symbol stands in each context to counts[leaves][symbols]. */
EXPORT int64_t fp_tally(const model_spec *spec, const uint8_t *const *parts,
                        const uint8_t *symbols, int64_t count, int64_t *counts) {
    int64_t leaves = 1;
    if (spec->parts < 1 || spec->parts > 3) return BAD_INDEX;
    for (int64_t k = 0; k < spec->parts; k++) leaves *= spec->sizes[k];
    for (int64_t i = 0; i < count; i++) {
        int64_t leaf = leaf_at(spec, parts, i);
        if (leaf >= leaves || symbols[i] >= spec->symbols) return BAD_INDEX;
        counts[leaf * spec->symbols + symbols[i]]++;
    }
    return 0;
}

/* Fill pairs[count] with (share << 16) + shares in front of each symbol. */
EXPORT int64_t fp_pairs(const model_spec *spec, const uint8_t *const *parts,
                        const uint8_t *symbols, int64_t count, uint32_t *pairs) {
    model m;
    int64_t error = model_open(&m, spec);
    if (error) return error;
    int64_t leaves = model_leaves(&m), width = spec->symbols;
    for (int64_t start = 0; start < count && !error;) {
        int64_t end = block_end(start, count, spec->lanes);
        for (int64_t i = start; i < end; i++) {
            int64_t leaf = leaf_at(spec, parts, i);
            if (leaf >= leaves || symbols[i] >= width) { error = BAD_INDEX; break; }
            pairs[i] = model_pairs(&m, leaf)[symbols[i]];
            m.fresh[i & 1][leaf * width + symbols[i]]++;
        }
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

/* Push a run, last block first.  Words fill the room from its end; return how many.
 * bounds: room for the block ends of the run, int64[blocks]. */
EXPORT int64_t fp_push_run(const uint32_t *pairs, int64_t count, int64_t bits,
                           uint32_t *states, int64_t lanes, uint16_t *end) {
    int64_t bounds[4096], blocks = 0;
    uint16_t *words = end;
    if (lanes < 1 || bits < 1 || bits > 16) return BAD_INDEX;
    for (int64_t i = 0; i < count; i++)
        if (pairs[i] >> 16 == 0 || pairs[i] >> 16 >= 1u << bits) return BAD_INDEX;
    /* Long runs: all blocks of the largest size, so their starts need no table. */
    for (int64_t start = 0; start < count; blocks++) {
        if (blocks == 4096) return NO_MEMORY;
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

/* Fill out[count] with symbols; *next is the word that is read next. */
EXPORT int64_t fp_pop_run(const model_spec *spec, const uint8_t *const *parts, int64_t count,
                          uint32_t *states, const uint16_t *words, int64_t num_words,
                          int64_t *next, uint8_t *out) {
    model m;
    int64_t error = model_open(&m, spec);
    if (error) return error;
    stream r = {states, spec->lanes, words, num_words, *next};
    int64_t leaves = model_leaves(&m), width = spec->symbols;
    for (int64_t start = 0; start < count && !error;) {
        int64_t end = block_end(start, count, spec->lanes), lane = 0;
        for (int64_t i = start; i < end && !error; i++) {
            int64_t leaf = leaf_at(spec, parts, i);
            if (leaf >= leaves) { error = BAD_INDEX; break; }
            int64_t symbol = pop(&r, lane, model_pairs(&m, leaf), &m);
            out[i] = (uint8_t)symbol;
            m.fresh[i & 1][leaf * width + symbol]++;
            error = refill(&r, lane);
            lane = lane + 1 == r.lanes ? 0 : lane + 1;
        }
        model_learn(&m);
        start = end;
    }
    *next = r.next;
    model_close(&m);
    return error;
}
