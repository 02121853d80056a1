/* The entropy coder: shares of the symbols of a run, and rANS in lanes.
 * Twins: entropy/coder.py, entropy/rans.py. */
#include <string.h>
#include "models.h"

#define LOW 65536u        /* the smallest state */

enum { SOME = 512 };      /* symbols whose leaves are computed at a time */

static uint8_t largest_of(const uint8_t *bytes, int64_t count) {
    uint8_t largest = 0;
    for (int64_t i = 0; i < count; i++) largest = bytes[i] > largest ? bytes[i] : largest;
    return largest;
}

/* Fill leaves[count] with the contexts of symbols from start on; a part that is NULL is
 * 0 everywhere.  Return BAD_INDEX for a part or symbol beyond those of the model. */
static int64_t some_leaves(const model_spec *spec, const uint8_t *const *parts,
                           const uint8_t *symbols, int64_t start, int64_t count,
                           uint32_t *leaves) {
    int filled = 0;
    if (symbols && largest_of(symbols + start, count) >= spec->symbols) return BAD_INDEX;
    for (int64_t k = 0; k < spec->parts; k++) {
        uint32_t size = (uint32_t)spec->sizes[k];
        const uint8_t *part = parts[k] ? parts[k] + start : NULL;
        if (part && largest_of(part, count) >= spec->sizes[k]) return BAD_INDEX;
        if (part && filled) {
            for (int64_t i = 0; i < count; i++) leaves[i] = leaves[i] * size + part[i];
        } else if (part) {
            for (int64_t i = 0; i < count; i++) leaves[i] = part[i];
        } else if (filled) {
            for (int64_t i = 0; i < count; i++) leaves[i] *= size;
        }
        filled |= part != NULL;
    }
    if (!filled) memset(leaves, 0, (size_t)count * sizeof *leaves);
    return 0;
}

static inline void tally_some(const uint32_t *leaves, const uint8_t *symbols, int64_t count,
                              int64_t width, uint32_t *even, uint32_t *odd) {
    int64_t i = 0;
    for (; i + 2 <= count; i += 2) {
        even[leaves[i] * width + symbols[i]]++;
        odd[leaves[i + 1] * width + symbols[i + 1]]++;
    }
    if (i < count) even[leaves[i] * width + symbols[i]]++;
}

/* Add how often each symbol stands in each context to counts[2][leaves][symbols]: of
 * even places, of odd ones, as adding to one cell again and again is slow. */
EXPORT int64_t fp_tally(const model_spec *spec, const uint8_t *const *parts,
                        const uint8_t *symbols, int64_t count, uint32_t *counts) {
    int64_t width = spec->symbols, num_leaves = model_contexts(spec, spec->parts);
    uint32_t leaves[SOME];
    if (width < 1 || num_leaves < 1 || count > UINT32_MAX) return BAD_INDEX;
    for (int64_t start = 0; start < count; start += SOME) {
        int64_t some = count - start < SOME ? count - start : SOME;
        const uint8_t *from = symbols + start;
        if (some_leaves(spec, parts, symbols, start, some, leaves)) return BAD_INDEX;
        if (width == 2) tally_some(leaves, from, some, 2, counts, counts + num_leaves * 2);
        else tally_some(leaves, from, some, width, counts, counts + num_leaves * width);
    }
    return 0;
}

/* Fill pairs[count] with (share << 16) + shares in front of symbols in these leaves. */
static inline void some_pairs(model *m, int64_t width, const uint32_t *leaves,
                              const uint8_t *symbols, int64_t count, uint32_t *pairs) {
    for (int64_t i = 0; i < count; i++) {
        int64_t cell = leaves[i] * width + symbols[i];
        uint32_t pair = m->pairs[cell];
        if (__builtin_expect(!pair, 0)) {
            model_touch(m, leaves[i]);
            pair = m->pairs[cell];
        }
        pairs[i] = pair;
        m->fresh[i & 3][cell]++;
    }
}

static int64_t block_pairs(model *m, const uint8_t *const *parts, const uint8_t *symbols,
                           int64_t start, int64_t end, uint32_t *pairs) {
    uint32_t leaves[SOME];
    for (; start < end; start += SOME) {
        int64_t some = end - start < SOME ? end - start : SOME;
        if (some_leaves(&m->spec, parts, symbols, start, some, leaves)) return BAD_INDEX;
        /* Two copies of one loop, each for its kind of symbols. */
        if (m->of_bits) some_pairs(m, 2, leaves, symbols + start, some, pairs + start);
        else some_pairs(m, m->spec.symbols, leaves, symbols + start, some, pairs + start);
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

/* Called once, when the library is loaded; return the version of the interface. */
EXPORT int64_t fp_open_versioned(void) {
    for (uint64_t share = 2; share < 1 << 16; share++)
        inverses[share] = UINT64_MAX / share + 1;
    return INTERFACE;
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

/* Pop a bit from a state. */
static inline int64_t pop_bit(uint32_t *x, const uint32_t *pairs) {
    uint32_t one = pairs[1] >> 16, slot = *x & ((1u << BIT_SHARES) - 1);
    uint32_t ones = one * (*x >> BIT_SHARES);
    int64_t bit = slot < one;
    *x = bit ? ones + slot : *x - ones - one;
    return bit;
}

/* Pop a symbol of a larger alphabet. */
static inline int64_t pop_symbol(uint32_t *x, const uint32_t *pairs, int64_t symbols) {
    uint32_t slot = *x & ((1u << SYMBOL_SHARES) - 1);
    int64_t symbol = find(pairs, symbols, slot);
    *x = (pairs[symbol] >> 16) * (*x >> SYMBOL_SHARES) + slot - (pairs[symbol] & 0xFFFFu);
    return symbol;
}

/* Fill out[count] with the next symbols in these leaves; *lane is that of the first, and
 * becomes that of the one behind. */
static inline int64_t pop_some(stream *r, model *m, int of_bits, const uint32_t *leaves,
                               int64_t count, int64_t *lane, uint8_t *restrict out) {
    int64_t width = of_bits ? 2 : m->spec.symbols, at = *lane, lanes = r->lanes;
    const uint16_t *word = r->words + r->next, *end = r->words + r->count;
    uint32_t *states = r->states;
    for (int64_t i = 0; i < count; i++) {
        const uint32_t *pairs = model_pairs(m, leaves[i], width);
        uint32_t x = states[at];
        int64_t symbol = of_bits ? pop_bit(&x, pairs) : pop_symbol(&x, pairs, width);
        out[i] = (uint8_t)symbol;
        m->fresh[i & 3][leaves[i] * width + symbol]++;
        if (x < LOW) {
            if (word == end) return CUT_OFF;
            x = x << 16 | *word++;
        }
        states[at] = x;
        at = at + 1 == lanes ? 0 : at + 1;
    }
    r->next = word - r->words;
    *lane = at;
    return 0;
}

/* Fill out with the symbols of one block, whose first belongs to the first lane. */
static int64_t pop_block(stream *r, model *m, const uint8_t *const *parts, int64_t start,
                         int64_t end, uint8_t *out) {
    int64_t lane = 0, error = 0;
    uint32_t leaves[SOME];
    for (; start < end && !error; start += SOME) {
        int64_t some = end - start < SOME ? end - start : SOME;
        if (some_leaves(&m->spec, parts, NULL, start, some, leaves)) return BAD_INDEX;
        if (m->of_bits) error = pop_some(r, m, 1, leaves, some, &lane, out + start);
        else error = pop_some(r, m, 0, leaves, some, &lane, out + start);
    }
    return error;
}

/* Fill out[count] with symbols; *next is the word that is read next. */
EXPORT int64_t fp_pop_run(const model_spec *spec, const uint8_t *const *parts, int64_t count,
                          uint32_t *states, const uint16_t *words, int64_t num_words,
                          int64_t *next, uint8_t *out) {
    model m;
    int64_t error = model_open(&m, spec);
    if (error) return error;
    if (*next < 0 || *next > num_words) {
        model_close(&m);
        return BAD_INDEX;
    }
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
