/* A second reader of model.bin, written from docs/format.md alone: checks a file and prints each tensor's name and byte sum.
   Exit status 0 if the file is accepted, 1 with a reason if not. The SHA-256 of tensors is not checked here. Of several files,
   prints for each whether it is accepted. */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct { const uint8_t *bytes; uint64_t size, data_off; uint32_t n, at; int quiet; uint32_t c[21]; float f[14]; uint32_t x[10];
                 const uint8_t *kinds; } File;
enum { DIM, LAYERS, HEADS, KV, HEAD, FFN, VOCAB, CTX, NORM, ACT, QK_NORM, QK_AFTER, PARALLEL, ROUTER, NORM_TOPK, EXPERTS, TOP_K,
       EXPERT_FFN, SHARED_FFN, N_ROPE, FLAGS };
enum { OWN_HEAD = 1, QKV_B = 2, O_B = 4, GATE_UP_B = 8, DOWN_B = 16, TOKENIZER = 32, UNGATED = 64, POST_NORM = 128, NO_PRE = 256,
       POSITIONS = 512, HEAD_B = 1024, EMBED_NORM = 2048, NORM_B = 4096, SHARED_GATE = 8192, EXPERT_B = 16384, SINKS = 32768,
       ATT_GATE = 1 << 16, V_NORM = 1 << 17, SCALE = 1 << 18, TURNS = 1 << 19 };
enum { CONV_LEN, K_HEADS, V_HEADS, K_DIM, V_DIM, HEAD2, KV2, SHARED, FFN2, PLE };  /* of x */
enum { ATTENTION, CONV, DELTA, ATTENTION2 };
enum { MATRIX = 100, F32 = 1, F16 = 2, BF16 = 3, I32 = 6, U8 = 7, I8 = 8, TYPES = 18 };
/* of each type: bits; columns that share a scale; the scale's type; how many numbers NAME.s has for these, NAME.d for 256 */
enum { BITS, SHARE, OF, EACH, ABOVE };
static const uint32_t types[TYPES + 1][5] = {
    {0, 0, 0, 0, 0}, {32, 0, 0, 0, 0}, {16, 0, 0, 0, 0}, {16, 0, 0, 0, 0}, {8, 32, F16, 1, 0}, {4, 32, F16, 1, 0}, {32, 0, 0, 0, 0},
    {8, 0, 0, 0, 0}, {8, 0, 0, 0, 0}, {4, 32, F16, 2, 0}, {5, 32, F16, 1, 0}, {5, 32, F16, 2, 0}, {2, 16, U8, 1, 2}, {3, 16, I8, 1, 1},
    {4, 32, U8, 2, 2}, {5, 32, U8, 2, 2}, {6, 16, I8, 1, 1}, {4, 32, F16, 1, 0}, {4, 32, I8, 1, 1}};

static const char *reason;
static int refuse(const char *why) { reason = why; return 0; }
static uint32_t u32(const uint8_t *p) { return p[0] | p[1] << 8 | p[2] << 16 | (uint32_t)p[3] << 24; }
static uint64_t u64(const uint8_t *p) { return u32(p) | (uint64_t)u32(p + 4) << 32; }
static float f32(const uint8_t *p) { uint32_t bits = u32(p); float x; memcpy(&x, &bits, 4); return x; }
static uint64_t up(uint64_t n, uint64_t to) { return (n + to - 1) / to * to; }
static int zeros(const uint8_t *p, uint64_t n) { while (n && !*p) p++, n--; return !n; }

/* a * b, or 0 if it does not fit 63 bits */
static uint64_t times(uint64_t a, uint64_t b) { return a && b > (UINT64_MAX >> 1) / a ? 0 : a * b; }

/* SHA-256 (FIPS 180-4); its constants are the fractions of roots of primes */
static void sha256(const uint8_t *p, uint64_t n, uint8_t out[32]) {
    uint32_t k[64], h[8], w[64], s[8];
    for (int prime = 2, i = 0; i < 64; prime++) {
        int whole = 1;
        for (int d = 2; d * d <= prime; d++) whole &= prime % d != 0;
        if (!whole) continue;
        if (i < 8) h[i] = (uint32_t)(uint64_t)(fmod(sqrt(prime), 1) * 4294967296.0);
        k[i++] = (uint32_t)(uint64_t)(fmod(cbrt(prime), 1) * 4294967296.0);
    }
    for (uint64_t at = 0; at < up(n + 9, 64); at += 64) {
        for (int i = 0; i < 64; i++) {
            if (i < 16) {
                w[i] = 0;
                for (uint64_t b = at + 4 * i; b < at + 4 * i + 4; b++)
                    w[i] = w[i] << 8 | (b < n ? p[b] : b == n ? 0x80 : b + 8 < up(n + 9, 64) ? 0
                                        : (uint8_t)(8 * n >> 8 * (up(n + 9, 64) - 1 - b)));
                continue;
            }
            #define TURN(x, r) ((x) >> (r) | (x) << (32 - (r)))
            uint32_t a = w[i - 15], b = w[i - 2];
            w[i] = w[i - 16] + w[i - 7] + (TURN(a, 7) ^ TURN(a, 18) ^ a >> 3) + (TURN(b, 17) ^ TURN(b, 19) ^ b >> 10);
        }
        memcpy(s, h, 32);
        for (int i = 0; i < 64; i++) {
            uint32_t x = s[7] + (TURN(s[4], 6) ^ TURN(s[4], 11) ^ TURN(s[4], 25)) + ((s[4] & s[5]) ^ (~s[4] & s[6])) + k[i] + w[i];
            uint32_t y = (TURN(s[0], 2) ^ TURN(s[0], 13) ^ TURN(s[0], 22)) + ((s[0] & s[1]) ^ (s[0] & s[2]) ^ (s[1] & s[2]));
            memmove(s + 1, s, 28);
            s[4] += x;
            s[0] = x + y;
        }
        for (int i = 0; i < 8; i++) h[i] += s[i];
    }
    for (int i = 0; i < 32; i++) out[i] = (uint8_t)(h[i / 4] >> (24 - i % 4 * 8));
}

static int has(const File *m, uint32_t flag) { return (m->c[FLAGS] & flag) != 0; }

static uint32_t kind(const File *m, uint32_t i) { return i < 224 ? m->kinds[i] : ATTENTION; }
static int attends(const File *m, uint32_t i) { return kind(m, i) == ATTENTION || kind(m, i) == ATTENTION2; }

/* whether a layer has keys and values of its own; -1: it sees those of an earlier layer, and there is none like it */
static int own(const File *m, uint32_t i) {
    uint32_t first = m->c[LAYERS] - m->x[SHARED];
    for (uint32_t k = 0; i >= first; k++) {
        if (k == first) return -1;
        if (kind(m, k) == kind(m, i)) return 0;
    }
    return 1;
}

static int check_kinds(const File *m) {
    const uint32_t *c = m->c, *x = m->x;
    uint32_t layers = c[LAYERS] < 224 ? c[LAYERS] : 224, found = 0;
    for (uint32_t i = 0; i < layers; i++) {
        if (m->kinds[i] > ATTENTION2) return refuse("kind of a layer");
        found |= 1u << m->kinds[i];
    }
    if (!zeros(m->kinds + layers, 224 - layers)) return refuse("kinds of more layers");
    if ((x[CONV_LEN] > 0) != ((found & (1 << CONV | 1 << DELTA)) > 0)) return refuse("taps");
    int any = x[K_HEADS] || x[V_HEADS] || x[K_DIM] || x[V_DIM], all = x[K_HEADS] && x[V_HEADS] && x[K_DIM] && x[V_DIM];
    if (any != ((found & 1 << DELTA) > 0) || any != all || has(m, TURNS) > any || x[K_DIM] % 4) return refuse("delta layers");
    if (any && (x[V_HEADS] % x[K_HEADS] || x[K_HEADS] * x[K_DIM] > 1 << 20 || x[V_HEADS] * x[V_DIM] > 1 << 20))
        return refuse("sizes of delta layers");
    any = x[HEAD2] || x[KV2], all = x[HEAD2] && x[KV2];
    if (any != ((found & 1 << ATTENTION2) > 0) || any != all) return refuse("a second kind of attention");
    if (any && (c[HEADS] % x[KV2] || x[HEAD2] % 2 || (uint64_t)c[HEADS] * x[HEAD2] > 1 << 20 || u32(m->bytes + 0x124)))
        return refuse("sizes of the second kind of attention");
    if (x[SHARED] >= c[LAYERS]) return refuse("layers that share");
    for (uint32_t i = c[LAYERS] - x[SHARED]; i < c[LAYERS]; i++)
        if (!attends(m, i) || own(m, i) < 0) return refuse("a layer with nothing to share");
    if ((x[FFN2] && !x[SHARED]) || x[PLE] % 16 || (uint64_t)c[LAYERS] * x[PLE] > 1 << 22) return refuse("widths");
    if (x[PLE] && (c[EXPERTS] || c[ACT] == 5)) return refuse("embeddings of layers");
    uint32_t odd = QKV_B | O_B | UNGATED | NO_PRE | POSITIONS;
    return c[PARALLEL] || c[FLAGS] & odd ? refuse("flags beside kinds of layers") : 1;
}

static int check_config(File *m) {
    static const uint32_t least[21] = {[DIM] = 1, [LAYERS] = 1, [HEADS] = 1, [KV] = 1, [HEAD] = 2, [FFN] = 1, [VOCAB] = 1, [CTX] = 1,
                                       [N_ROPE] = 1};
    static const uint32_t most[21] = {1 << 20, 1024, 1 << 16, 1 << 16, 1024, 1 << 22, 1 << 22, 1 << 24, 1, 5, 2, 1, 1, 0, 1, 1024, 32,
                                      1 << 20, 1 << 20, 16, (1 << 20) - 1};
    const uint8_t *at = m->bytes + 0x70;
    uint32_t *c = m->c;
    float *f = m->f;  /* eps post_eps attn embed resid logit attn_cap final_cap clip route alpha limit beta len */
    for (int i = 0; i < 21; i++, at += 4)
        if ((c[i] = u32(at)) < least[i] || c[i] > most[i]) return refuse("config");
    for (int i = 0; i < 14; i++, at += 4)
        if (!((f[i] = f32(at)) >= 0) || isinf(f[i]) || ((i == 1 || i == 8 || i == 9) && f[i] != 0)) return refuse("number");
    for (int i = 0; i < 2; i++)
        if (u32(at + 4 * i) != 0xFFFFFFFF && u32(at + 4 * i) >= c[VOCAB]) return refuse("token");
    float temperature = f32(at + 44), top_p = f32(at + 48);
    if (!(temperature >= 0 && temperature <= 100 && top_p >= 0 && top_p <= 1)) return refuse("sampling");
    if ((u32(at + 40) && c[N_ROPE] % 2) || has(m, HEAD_B) > has(m, OWN_HEAD)) return refuse("flags");
    if (fmodf(f[13], 1) != 0 || f[13] > (float)(1 << 30) || (f[12] != 0) > (f[13] != 0)) return refuse("temperature of queries");
    if (c[HEADS] % c[KV] || c[HEAD] % 2 || (uint64_t)c[HEADS] * c[HEAD] > 1 << 20) return refuse("heads");
    if (!(f[0] > 0 && f[0] < 1)) return refuse("eps");
    if (c[EXPERTS]) {
        if (c[TOP_K] < 1 || c[TOP_K] > c[EXPERTS] || c[EXPERT_FFN] < 8 || c[EXPERT_FFN] % 8 || c[DIM] % 16) return refuse("experts");
        if (c[PARALLEL] || has(m, UNGATED) || has(m, POST_NORM) || has(m, NO_PRE)) return refuse("norms of experts");
        uint64_t wide = 2 * c[EXPERT_FFN] > c[DIM] ? 2 * c[EXPERT_FFN] : c[DIM];
        if (c[EXPERTS] * wide > (uint64_t)1 << 31) return refuse("rows of experts");
    } else if (c[TOP_K] || c[EXPERT_FFN] || c[SHARED_FFN] || c[NORM_TOPK] || has(m, SHARED_GATE) || has(m, EXPERT_B))
        return refuse("no experts");
    if (has(m, SHARED_GATE) && !c[SHARED_FFN]) return refuse("shared gate");
    if ((c[ACT] == 5) != (f[11] > 0) || (c[ACT] == 5 && has(m, UNGATED))) return refuse("limit");
    if (c[QK_AFTER] && !c[QK_NORM]) return refuse("order of a norm");
    static const uint32_t limits[10] = {16, 1 << 12, 1 << 12, 1024, 1024, 1024, 1 << 16, 1023, 1 << 22, 1 << 14};
    for (int i = 0; i < 10; i++)
        if ((m->x[i] = u32(m->bytes + 0x134 + 4 * i)) > limits[i]) return refuse("config of kinds");
    m->kinds = m->bytes + 0x15C;
    if (!zeros(m->kinds + 224, 4096 - 0x15C - 224)) return refuse("reserved");
    return c[FLAGS] >> 16 || !zeros(m->bytes + 0x134, 40 + 224) ? check_kinds(m) : 1;
}

static const uint8_t *record(const File *m, uint32_t i) { return m->bytes + 4096 + 192 * (uint64_t)i; }

static int check_table(const File *m) {
    uint64_t expected = m->data_off;
    for (uint32_t i = 0; i < m->n; i++) {
        const uint8_t *r = record(m, i);
        uint32_t dtype = u32(r + 64), ndim = u32(r + 68), group = u32(r + 120), layout = u32(r + 124);
        uint64_t off = u64(r + 104), nbytes = u64(r + 112), values = 1, sum = 0;
        if (!r[0] || r[63] || strspn((const char *)r, "abcdefghijklmnopqrstuvwxyz0123456789_.") != strlen((const char *)r))
            return refuse("name");
        if (!zeros(r + strlen((const char *)r), 64 - strlen((const char *)r)) || !zeros(r + 160, 32)) return refuse("reserved");
        if (dtype < 1 || dtype > TYPES || ndim < 1 || ndim > 4 || layout != (ndim == 2)) return refuse("type");
        int quantised = types[dtype][SHARE] > 0;
        if (group != types[dtype][SHARE] || (quantised && !layout)) return refuse("group");
        for (uint32_t k = 0; k < 4; k++) {
            uint64_t d = u64(r + 72 + 8 * k);
            if (k < ndim ? d < 1 || d > (uint64_t)1 << 31 : d != 0) return refuse("dims");
            if (k >= ndim) continue;
            if (layout) d = up(d, k == 0 ? 16 : quantised ? 32 : 1);
            if (!(values = times(values, d))) return refuse("dims overflow");
        }
        uint64_t total = times(values, types[dtype][BITS]);
        if (!total || total / 8 != nbytes) return refuse("nbytes");
        if (off != expected || off % 64 || nbytes > m->size || off > m->size - nbytes) return refuse("offset");
        for (uint64_t k = 0; k < nbytes && !m->quiet; k++) sum += m->bytes[off + k];
        expected = up(off + nbytes, 64);
        if (!m->quiet) printf("%s %llu\n", r, (unsigned long long)sum);
    }
    return expected == m->size ? 1 : refuse("end");
}

static int matrix(File *m, int layer, const char *name, uint64_t rows, uint64_t cols);

/* the next record has this name (layer -1: no layer), type and shape; numbers of what is no matrix are finite */
static int next4(File *m, int layer, const char *name, uint32_t type, uint64_t d0, uint64_t d1, uint64_t d2, uint64_t d3) {
    char whole[64];
    if (type == MATRIX) return matrix(m, layer, name, d0, d1);
    if (layer < 0) snprintf(whole, sizeof whole, "%s", name);
    else snprintf(whole, sizeof whole, "l%d.%.50s", layer, name);
    const uint8_t *r = record(m, m->at);
    uint32_t dtype = u32(r + 64), dims = d3 ? 4 : d2 ? 3 : d1 ? 2 : 1;
    if (m->at++ >= m->n || strcmp((const char *)r, whole)) return refuse("another tensor is expected");
    if (dtype != type) return refuse("another type is expected");
    if (u32(r + 68) != dims || (d0 && u64(r + 72) != d0) || u64(r + 80) != d1 || u64(r + 88) != d2 || u64(r + 96) != d3)
        return refuse("shape");
    if (dims == 2) return 1;  /* a matrix: anything goes */
    const uint8_t *p = m->bytes + u64(r + 104), *end = p + u64(r + 112);
    for (; type == F32 && p < end; p += 4)
        if (!isfinite(f32(p))) return refuse("not finite");
    for (; type == F16 && p < end; p += 2)
        if ((p[1] & 0x7C) == 0x7C) return refuse("not finite");
    for (; type == I32 && p < end; p += 4) {
        int32_t v = (int32_t)u32(p);
        if (strcmp(name, "window") ? v < -1 || v >= (int32_t)m->c[N_ROPE] : v < 0) return refuse("window or rope_id");
    }
    return 1;
}

static int next(File *m, int layer, const char *name, uint32_t type, uint64_t d0, uint64_t d1, uint64_t d2) {
    return next4(m, layer, name, type, d0, d1, d2, 0);
}

/* a matrix, in one piece or in several by rows, each with what is beside it */
static int matrix(File *m, int layer, const char *name, uint64_t rows, uint64_t cols) {
    int whole = strstr(name, "embed") || !strcmp(name, "positions") || !strncmp(name, "experts", 7);
    for (uint32_t number = 0; rows; number++) {
        char piece[64], beside[72];
        snprintf(piece, sizeof piece, number ? "%.40s.%u" : "%.40s", name, number);
        const uint8_t *r = record(m, m->at);
        uint32_t dtype = u32(r + 64);
        uint64_t some = u64(r + 72), blocks = up(some, 16) / 16;
        if (m->at >= m->n || dtype == I32 || dtype == U8 || dtype == I8) return refuse("a matrix is expected");
        if (some > rows || (some < rows && (whole || some % 16))) return refuse("rows of a piece");
        if (!next(m, layer, piece, dtype, some, cols, 0)) return 0;
        rows -= some;
        if (!types[dtype][SHARE]) continue;
        uint64_t parts = up(cols, 32) / types[dtype][SHARE], supers = up(cols, 256) / 256, two = types[dtype][EACH] > 1 ? 2 : 16;
        snprintf(beside, sizeof beside, "%s.s", piece);
        if (!next4(m, layer, beside, types[dtype][OF], blocks, parts, two, two == 2 ? 16 : 0)) return 0;
        two = types[dtype][ABOVE] > 1 ? 2 : 16;
        snprintf(beside, sizeof beside, "%s.d", piece);
        if (types[dtype][ABOVE] && !next4(m, layer, beside, F16, blocks, supers, two, two == 2 ? 16 : 0)) return 0;
    }
    return 1;
}

static int norm(File *m, int layer, const char *name, int there) {
    char part[64];
    snprintf(part, sizeof part, "%s.w", name);
    if (there && !next(m, layer, part, F32, m->c[DIM], 0, 0)) return 0;
    snprintf(part, sizeof part, "%s.b", name);
    return !there || !has(m, NORM_B) || next(m, layer, part, F32, m->c[DIM], 0, 0);
}

static int linear(File *m, int layer, const char *name, uint64_t rows, uint64_t cols, uint32_t bias) {
    char part[64];
    snprintf(part, sizeof part, "%s.b", name);
    return next(m, layer, name, MATRIX, rows, cols, 0) && (!has(m, bias) || next(m, layer, part, F32, rows, 0, 0));
}

/* how tokens learn of each other: -> the columns of what goes to matrix o, or 0 */
static uint64_t check_mixer(File *m, int i) {
    const uint32_t *c = m->c, *x = m->x;
    uint64_t size = kind(m, (uint32_t)i) == ATTENTION2 ? x[HEAD2] : c[HEAD], heads = kind(m, (uint32_t)i) == ATTENTION2 ? x[KV2] : c[KV];
    uint64_t q = c[HEADS] * size, kv = own(m, (uint32_t)i) ? heads * size : 0, v = (uint64_t)x[V_HEADS] * x[V_DIM];
    uint64_t mixed = 2 * (uint64_t)x[K_HEADS] * x[K_DIM] + v, dim = c[DIM];
    if (kind(m, (uint32_t)i) == CONV)
        return next(m, i, "qkv", MATRIX, 3 * dim, dim, 0) && next(m, i, "conv", F32, x[CONV_LEN] * dim, 0, 0) ? dim : 0;
    if (kind(m, (uint32_t)i) == DELTA) {
        if (!next(m, i, "qkv", MATRIX, mixed + v, dim, 0) || !next(m, i, "conv", F32, x[CONV_LEN] * mixed, 0, 0)) return 0;
        if (!next(m, i, "ab", MATRIX, 2 * x[V_HEADS], dim, 0) || !next(m, i, "decay", F32, 2 * x[V_HEADS], 0, 0)) return 0;
        return next(m, i, "dn.w", F32, x[V_DIM], 0, 0) ? v : 0;
    }
    if (!linear(m, i, "qkv", q + 2 * kv + (has(m, ATT_GATE) ? q : 0), dim, QKV_B)) return 0;
    if (c[QK_NORM] && !next(m, i, "qk.w", F32, q + kv, 0, 0)) return 0;
    return !has(m, SINKS) || next(m, i, "sinks", F32, c[HEADS], 0, 0) ? q : 0;
}

static int check_layer(File *m, int i) {
    const uint32_t *c = m->c;
    uint64_t dim = c[DIM], n = c[EXPERTS], ffn = c[SHARED_FFN] ? c[SHARED_FFN] : c[FFN], made;
    if (!c[SHARED_FFN] && m->x[FFN2] && (uint32_t)i >= c[LAYERS] - m->x[SHARED]) ffn = m->x[FFN2];
    if (!norm(m, i, "an", !has(m, NO_PRE)) || !(made = check_mixer(m, i))) return 0;
    if (!linear(m, i, "o", dim, made, O_B) || !norm(m, i, "an2", has(m, POST_NORM)) || !norm(m, i, "fn", !has(m, NO_PRE))) return 0;
    if (n) {
        if (!linear(m, i, "router", n, dim, EXPERT_B) || !linear(m, i, "experts_up", n * 2 * c[EXPERT_FFN], dim, EXPERT_B)) return 0;
        if (!linear(m, i, "experts_down", n * dim, c[EXPERT_FFN], EXPERT_B)) return 0;
        if (has(m, SHARED_GATE) && !next(m, i, "shared_gate", MATRIX, 1, dim, 0)) return 0;
    }
    if (!n || c[SHARED_FFN])
        if (!linear(m, i, "gate_up", has(m, UNGATED) ? ffn : 2 * ffn, dim, GATE_UP_B) || !linear(m, i, "down", dim, ffn, DOWN_B))
            return 0;
    if (!norm(m, i, "fn2", has(m, POST_NORM))) return 0;
    uint64_t ple = m->x[PLE];
    if (ple && (!next(m, i, "ple_gate", MATRIX, ple, dim, 0) || !next(m, i, "ple_up", MATRIX, dim, ple, 0) || !norm(m, i, "pn", 1)))
        return 0;
    return !has(m, SCALE) || next(m, i, "scale", F32, 1, 0, 0);
}

static int check_plan(File *m) {
    const uint32_t *c = m->c;
    if (!next(m, -1, "rope", F32, c[N_ROPE], 2, c[HEAD] / 2) || !next(m, -1, "window", I32, c[LAYERS], 0, 0)) return 0;
    uint64_t wide = (uint64_t)c[LAYERS] * m->x[PLE];
    if (!next(m, -1, "rope_id", I32, c[LAYERS], 0, 0)) return 0;
    if (m->x[HEAD2] && !next(m, -1, "rope2", F32, 1, 2, m->x[HEAD2] / 2)) return 0;
    if (!next(m, -1, "embed", MATRIX, c[VOCAB], c[DIM], 0)) return 0;
    if (has(m, POSITIONS) && !next(m, -1, "positions", MATRIX, c[CTX], c[DIM], 0)) return 0;
    if (!norm(m, -1, "embed_norm", has(m, EMBED_NORM))) return 0;
    if (wide && (!next(m, -1, "ple_embed", MATRIX, c[VOCAB], wide, 0) || !next(m, -1, "ple_proj", MATRIX, wide, c[DIM], 0) ||
                 !next(m, -1, "ple_norm.w", F32, m->x[PLE], 0, 0)))
        return 0;
    for (uint32_t i = 0; i < c[LAYERS]; i++)
        if (!check_layer(m, (int)i)) return 0;
    if (!norm(m, -1, "out_norm", 1) || (has(m, OWN_HEAD) && !linear(m, -1, "head", c[VOCAB], c[DIM], HEAD_B))) return 0;
    if (has(m, TOKENIZER) && !next(m, -1, "tokenizer", U8, 0, 0, 0)) return 0;
    return m->at == m->n ? 1 : refuse("more tensors than the config calls for");
}

static int check(File *m) {
    const uint8_t *file = m->bytes;
    if (m->size < 8192) return refuse("short");
    uint64_t note_off = u64(file + 0x30), note_len = u64(file + 0x38), table_end;
    m->n = u32(file + 0x18), m->data_off = u64(file + 0x28), table_end = 4096 + 192 * (uint64_t)m->n;
    if (memcmp(file, "\x89LMB\r\n\x1a\n", 8)) return refuse("magic");
    if (u32(file + 8) != 1 || u32(file + 12) != 0x01020304) return refuse("version");
    if (u64(file + 16) != m->size) return refuse("size");
    if (m->n < 1 || m->n > 65536 || u32(file + 0x1c) != 192 || u64(file + 0x20) != 4096) return refuse("header");
    if (m->data_off % 4096 || m->data_off < table_end || m->data_off > m->size) return refuse("data_off");
    if (note_off != table_end || note_len > 1 << 20 || up(table_end + note_len, 4096) != m->data_off) return refuse("note");
    if (!zeros(file + table_end + note_len, m->data_off - table_end - note_len)) return refuse("behind the note");
    if (note_len && !file[table_end + note_len - 1]) return refuse("end of the note");
    uint8_t digest[32];
    sha256(file + 0x60, m->data_off - 0x60, digest);
    if (memcmp(digest, file + 0x40, 32)) return refuse("checksum");
    return check_config(m) && check_table(m) && check_plan(m);
}

int main(int argc, char **argv) {
    int bad = argc < 2;
    for (int i = 1; i < argc; i++) {
        File m = {.quiet = argc > 2};
        FILE *f = fopen(argv[i], "rb");
        uint8_t *bytes = NULL;
        reason = "cannot be read";
        if (f && !fseek(f, 0, SEEK_END)) {
            m.size = (uint64_t)ftell(f);
            rewind(f);
            m.bytes = bytes = malloc(m.size ? m.size : 1);  /* not a byte more: the sanitiser sees every step outside */
        }
        int good = bytes && fread(bytes, 1, m.size, f) == m.size && check(&m);
        if (m.quiet) printf("%s\n", good ? "accepted" : reason);
        else if (!good) fprintf(stderr, "refused: %s\n", reason);
        bad |= !good && !m.quiet;
        free(bytes);
        if (f) fclose(f);
    }
    return bad;
}
