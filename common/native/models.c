/* Adaptive context models: counts in nested contexts, shares of a block from the counts
 * of the blocks before it.  Only contexts that a block meets are computed. */
#include <stdlib.h>
#include <string.h>
#include "models.h"

#define ONE 16777216.0    /* a share of 1 on the way from parent to child */
enum { BIT_WEIGHT = 4, GROWTH = 16, SMALLEST = 16, LARGEST = 1 << 19, MOST_LEAVES = 1 << 20 };

int64_t block_end(int64_t start, int64_t count, int64_t lanes) {
    int64_t size = start / GROWTH;
    if (size < lanes) size = lanes;
    if (size < SMALLEST) size = SMALLEST;
    size = size / lanes * lanes;
    if (size > LARGEST) size = LARGEST;
    if (size == 0) size = lanes;
    return count - start < size ? count : start + size;
}

/* Give a level its arrays out of m->memory; with at = NULL only count the bytes. */
static size_t lay_out(model *m, char *at) {
    size_t used = 0, symbols = (size_t)m->spec.symbols, leaves = 0;
    for (int k = 0; k < m->depth; k++) {
        level *l = m->levels + k;
        leaves = (size_t)l->contexts;
        if (at) l->counts = (double *)(at + used);
        used += leaves * symbols * sizeof(double);
        if (at) l->shares = (double *)(at + used);
        used += leaves * symbols * sizeof(double);
        if (at) l->totals = (double *)(at + used);
        used += leaves * sizeof(double);
    }
    if (at) m->touched = (int64_t *)(at + used);
    used += leaves * sizeof(int64_t);
    if (at) m->pairs = (uint32_t *)(at + used);
    used += leaves * symbols * sizeof(uint32_t);
    for (int place = 0; place < 4; place++) {
        if (at) m->fresh[place] = (uint32_t *)(at + used);
        used += leaves * symbols * sizeof(uint32_t);
    }
    for (int k = 0; k < m->depth; k++) {
        if (at) m->levels[k].stamps = (int32_t *)(at + used);
        used += (size_t)m->levels[k].contexts * sizeof(int32_t);
    }
    return used;
}

int64_t model_contexts(const model_spec *spec, int64_t parts) {
    int64_t contexts = 1;
    if (spec->parts < 1 || spec->parts >= LEVELS) return BAD_INDEX;
    for (int64_t k = 0; k < parts; k++) {
        if (spec->sizes[k] < 1 || spec->sizes[k] > MOST_LEAVES) return BAD_INDEX;
        contexts *= spec->sizes[k];
        if (contexts > MOST_LEAVES) return BAD_INDEX;
    }
    return contexts;
}

int64_t model_open(model *m, const model_spec *spec) {
    memset(m, 0, sizeof *m);
    m->spec = *spec;
    if (spec->symbols < 2 || spec->symbols > 256 || spec->lanes < 1) return BAD_INDEX;
    if (model_contexts(spec, spec->parts) < 1) return BAD_INDEX;
    m->of_bits = spec->root >= 0;
    if (m->of_bits && spec->symbols != 2) return BAD_INDEX;
    m->bits = m->of_bits ? BIT_SHARES : SYMBOL_SHARES;
    m->depth = (int)spec->parts + 1;
    for (int k = 0; k < m->depth; k++) m->levels[k].contexts = model_contexts(spec, k);
    m->memory = calloc(1, lay_out(m, NULL));
    if (!m->memory) return NO_MEMORY;
    lay_out(m, m->memory);
    m->block = 1;
    return 0;
}

void model_close(model *m) { free(m->memory); }

/* Blend the counts of a context with the shares of its parent. */
static void blend_symbols(level *l, int64_t at, const double *parent, int64_t symbols) {
    double weight = (double)(symbols / 2), total = l->totals[at] + weight;
    const double *counts = l->counts + at * symbols;
    double *shares = l->shares + at * symbols;
    for (int64_t s = 0; s < symbols; s++)
        shares[s] = (double)(int32_t)((counts[s] * ONE + weight * parent[s]) / total);
}

static void blend_bit(level *l, int64_t at, double parent) {
    double ones = l->counts[at * 2 + 1], total = l->totals[at] + BIT_WEIGHT;
    l->shares[at * 2] = (double)(int32_t)((ones * ONE + BIT_WEIGHT * parent) / total);
}

/* Bring the shares of a context, and of those above it, up to the block. */
static const double *shares_of(model *m, int depth, int64_t at) {
    level *l = m->levels + depth;
    int64_t symbols = m->spec.symbols;
    if (l->stamps[at] == m->block) return l->shares + at * symbols;
    l->stamps[at] = m->block;
    if (depth > 0) {
        const double *parent = shares_of(m, depth - 1, at / m->spec.sizes[depth - 1]);
        if (m->of_bits) blend_bit(l, at, parent[0]);
        else blend_symbols(l, at, parent, symbols);
    } else if (m->of_bits) {
        blend_bit(l, at, (double)m->spec.root);
    } else {
        double uniform[256];
        for (int64_t s = 0; s < symbols; s++)
            uniform[s] = (double)((1 << 24) / symbols);
        blend_symbols(l, at, uniform, symbols);
    }
    return l->shares + at * symbols;
}

static void fill_bit(uint32_t *pairs, double share) {
    uint32_t room = (1u << BIT_SHARES) - 2;
    uint32_t one = 1 + (uint32_t)(share * room / ONE);
    pairs[0] = (((1u << BIT_SHARES) - one) << 16) + one;
    pairs[1] = one << 16;
}

static void fill_symbols(uint32_t *pairs, const double *shares, int64_t symbols) {
    double room = (double)((1 << SYMBOL_SHARES) - symbols);
    uint32_t found[256], sum = 0, before = 0;
    int64_t largest = 0;
    for (int64_t s = 0; s < symbols; s++)
        found[s] = 1 + (uint32_t)(int32_t)(shares[s] * room / ONE);
    for (int64_t s = 0; s < symbols; s++) {
        sum += found[s];
        if (found[s] > found[largest]) largest = s;
    }
    found[largest] += (1u << SYMBOL_SHARES) - sum;
    for (int64_t s = 0; s < symbols; s++) {
        pairs[s] = (found[s] << 16) + before;
        before += found[s];
    }
}

void model_touch(model *m, int64_t leaf) {
    const double *shares = shares_of(m, m->depth - 1, leaf);
    uint32_t *pairs = m->pairs + leaf * m->spec.symbols;
    m->touched[m->num_touched++] = leaf;
    if (m->of_bits) fill_bit(pairs, shares[0]);
    else fill_symbols(pairs, shares, m->spec.symbols);
}

/* Add the symbols of a leaf to it and to the contexts above it. */
static void learn_leaf(model *m, int64_t leaf) {
    int64_t symbols = m->spec.symbols;
    for (int64_t s = 0; s < symbols; s++) {
        double seen = 0;
        for (int place = 0; place < 4; place++) {
            seen += m->fresh[place][leaf * symbols + s];
            m->fresh[place][leaf * symbols + s] = 0;
        }
        m->pairs[leaf * symbols + s] = 0;
        if (seen == 0) continue;
        int64_t at = leaf;
        for (int k = m->depth - 1; k >= 0; k--) {
            m->levels[k].counts[at * symbols + s] += seen;
            m->levels[k].totals[at] += seen;
            if (k) at /= m->spec.sizes[k - 1];
        }
    }
}

void model_learn(model *m) {
    for (int64_t i = 0; i < m->num_touched; i++) learn_leaf(m, m->touched[i]);
    m->num_touched = 0;
    m->block++;
}
