/* A second reader of model.bin, written from docs/format.md: checks a file and prints each tensor's name and byte sum.
   Exit status 0 if the file is accepted, 1 with a reason if not. Hashes are not checked here. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint32_t u32(const uint8_t *p) { return p[0] | p[1] << 8 | p[2] << 16 | (uint32_t)p[3] << 24; }
static uint64_t u64(const uint8_t *p) { return u32(p) | (uint64_t)u32(p + 4) << 32; }

static int refuse(const char *why) {
    fprintf(stderr, "refused: %s\n", why);
    return 1;
}

/* a * b, or 0 if it does not fit 63 bits */
static uint64_t times(uint64_t a, uint64_t b) { return a && b > (UINT64_MAX >> 1) / a ? 0 : a * b; }

static uint64_t up(uint64_t n, uint64_t to) { return (n + to - 1) / to * to; }

static int check_table(const uint8_t *file, uint64_t size, uint32_t n, uint64_t data_off) {
    static const int bits[] = {0, 32, 16, 16, 8, 4, 32, 8};
    uint64_t expected = data_off;
    for (uint32_t i = 0; i < n; i++) {
        const uint8_t *r = file + 4096 + 192 * (uint64_t)i;
        uint32_t dtype = u32(r + 64), ndim = u32(r + 68), group = u32(r + 120), layout = u32(r + 124);
        uint64_t off = u64(r + 104), nbytes = u64(r + 112), values = 1, sum = 0;
        if (!r[0] || r[63] || strspn((const char *)r, "abcdefghijklmnopqrstuvwxyz0123456789_.") != strlen((const char *)r))
            return refuse("name");
        for (int k = (int)strlen((const char *)r); k < 64; k++)
            if (r[k]) return refuse("name");
        for (int k = 160; k < 192; k++)
            if (r[k]) return refuse("reserved");
        if (dtype < 1 || dtype > 7 || ndim < 1 || ndim > 4 || layout > 1 || (layout && ndim != 2)) return refuse("type");
        int quantised = dtype == 4 || dtype == 5;
        if (group != (quantised ? 32u : 0u) || (quantised && !layout)) return refuse("group");
        for (uint32_t k = 0; k < 4; k++) {
            uint64_t d = u64(r + 72 + 8 * k);
            if (k < ndim ? d < 1 || d > (uint64_t)1 << 31 : d != 0) return refuse("dims");
            if (k >= ndim) continue;
            if (layout) d = up(d, k == 0 ? 16 : quantised ? 32 : 1);
            if (!(values = times(values, d))) return refuse("dims overflow");
        }
        uint64_t total = times(values, bits[dtype]);
        if (!total || total / 8 != nbytes) return refuse("nbytes");
        if (off != expected || off % 64 || nbytes > size || off > size - nbytes) return refuse("offset");
        for (uint64_t k = 0; k < nbytes; k++) sum += file[off + k];
        expected = up(off + nbytes, 64);
        printf("%s %llu\n", r, (unsigned long long)sum);
    }
    return expected == size ? 0 : refuse("end");
}

int main(int argc, char **argv) {
    FILE *f = argc == 2 ? fopen(argv[1], "rb") : NULL;
    if (!f) return refuse("cannot open");
    fseek(f, 0, SEEK_END);
    uint64_t size = (uint64_t)ftell(f);
    rewind(f);
    uint8_t *file = malloc(size + 1);
    if (!file || fread(file, 1, size, f) != size) return refuse("cannot read");
    fclose(f);
    int bad = 1;
    uint64_t n = size < 8192 ? 0 : u32(file + 0x18), data_off = size < 8192 ? 0 : u64(file + 0x28);
    if (size < 8192) refuse("short");
    else if (memcmp(file, "\x89LMB\r\n\x1a\n", 8)) refuse("magic");
    else if (u32(file + 8) != 1 || u32(file + 12) != 0x01020304) refuse("version");
    else if (u64(file + 16) != size) refuse("size");
    else if (n < 1 || n > 65536 || u32(file + 0x1c) != 192 || u64(file + 0x20) != 4096) refuse("header");
    else if (data_off % 4096 || data_off < 4096 + 192 * n || data_off > size) refuse("data_off");
    else bad = check_table(file, size, (uint32_t)n, data_off);
    free(file);
    return bad;
}
