#include "ckernels.h"

#include <string.h>

#if defined(__x86_64__)
#include <immintrin.h>
#define AVX2 __attribute__((target("avx2")))
#define AVX512 __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq")))
#define SSE42 __attribute__((target("sse4.2")))
#endif

// Plain

static inline uint64_t load64(const void *from) {
    uint64_t word;
    memcpy(&word, from, sizeof word);
    return word;
}

static bool plain_page_is_zero(const void *page) {
    const uint8_t *bytes = page;
    for (int line = 0; line < CK_LINES; line++, bytes += CK_LINE) {
        uint64_t any = 0;
        for (int word = 0; word < 8; word++) any |= load64(bytes + 8 * word);
        if (any) return false;
    }
    return true;
}

static uint64_t plain_page_difference(
    const void *page, const void *reference, uint8_t masks[CK_LINES], const void *next, const void *later) {
    (void)next;
    (void)later;
    const uint8_t *new = page, *old = reference;
    uint64_t lines = 0;
    for (int line = 0; line < CK_LINES; line++) {
        uint8_t mask = 0;
        for (int word = 0; word < 8; word++) {
            size_t at = (size_t)line * CK_LINE + (size_t)word * 8;
            mask |= (uint8_t)((load64(new + at) != load64(old + at)) << word);
        }
        masks[line] = mask;
        lines |= (uint64_t)(mask != 0) << line;
    }
    return lines;
}

static size_t plain_page_take(
    const void *page, void *reference, uint64_t lines, const uint8_t masks[CK_LINES], uint8_t *packed, void *out) {
    uint8_t *to = out;
    for (; lines; lines &= lines - 1) {
        int line = __builtin_ctzll(lines);
        const uint8_t *from = (const uint8_t *)page + (size_t)line * CK_LINE;
        unsigned mask = masks[line];
        *packed++ = (uint8_t)mask;
        memcpy((uint8_t *)reference + (size_t)line * CK_LINE, from, CK_LINE);
        if (mask == 0xff) {
            memcpy(to, from, CK_LINE);
            to += CK_LINE;
            continue;
        }
        for (; mask; mask &= mask - 1, to += 8) memcpy(to, from + 8 * __builtin_ctz(mask), 8);
    }
    return (size_t)(to - (uint8_t *)out);
}

static void plain_page_copy(const void *page, void *reference, void *out) {
    memcpy(reference, page, CK_PAGE);
    memcpy(out, page, CK_PAGE);
}

// The operator "append n zero bytes" on a CRC, as four tables of 256; it joins the CRCs of neighbouring runs.
typedef struct {
    uint32_t of[4][256];
} zeros_operator;

enum { LONG_RUN = 4096, SHORT_RUN = 256 };
static zeros_operator long_zeros, short_zeros;
static uint32_t byte_table[256];

static const uint32_t polynomial = 0x82f63b78;

// Product of two polynomials modulo the CRC's; bit 31 is the coefficient of x^0.
static uint32_t multiply(uint32_t a, uint32_t b) {
    uint32_t product = 0;
    for (uint32_t bit = 1u << 31; bit; bit >>= 1) {
        if (a & bit) product ^= b;
        b = (b & 1) ? (b >> 1) ^ polynomial : b >> 1;
    }
    return product;
}

static void fill_zeros_operator(zeros_operator *operator, size_t bytes) {
    uint32_t power = 1u << 31;          // x^0
    uint32_t square = 1u << (31 - 8);   // x^8: one byte
    for (; bytes; bytes >>= 1, square = multiply(square, square)) {
        if (bytes & 1) power = multiply(power, square);
    }
    for (int byte = 0; byte < 4; byte++) {
        operator->of[byte][0] = 0;
        for (uint32_t value = 1; value < 256; value++) {
            uint32_t low = value & -value;
            operator->of[byte][value] =
                low == value ? multiply(power, value << (8 * byte)) : operator->of[byte][value ^ low] ^ operator->of[byte][low];
        }
    }
}

static uint32_t plain_crc32c(uint32_t crc, const void *bytes, size_t length) {
    const uint8_t *at = bytes;
    crc = ~crc;
    for (; length; length--) crc = byte_table[(crc ^ *at++) & 0xff] ^ (crc >> 8);
    return ~crc;
}

// x86-64

#if defined(__x86_64__)
AVX2 static bool avx2_page_is_zero(const void *page) {
    const __m256i *at = page;
    for (int step = 0; step < CK_PAGE / 128; step++, at += 4) {
        __m256i any = _mm256_or_si256(
            _mm256_or_si256(_mm256_loadu_si256(at), _mm256_loadu_si256(at + 1)),
            _mm256_or_si256(_mm256_loadu_si256(at + 2), _mm256_loadu_si256(at + 3)));
        if (!_mm256_testz_si256(any, any)) return false;
    }
    return true;
}

// Which lines changed, from their masks.
AVX2 static inline uint64_t avx2_lines(const uint8_t masks[CK_LINES]) {
    __m256i zero = _mm256_setzero_si256();
    __m256i low = _mm256_cmpeq_epi8(_mm256_loadu_si256((const __m256i *)masks), zero);
    __m256i high = _mm256_cmpeq_epi8(_mm256_loadu_si256((const __m256i *)(masks + 32)), zero);
    return ~((uint64_t)(uint32_t)_mm256_movemask_epi8(low) | (uint64_t)(uint32_t)_mm256_movemask_epi8(high) << 32);
}

AVX2 static uint64_t avx2_page_difference(
    const void *page, const void *reference, uint8_t masks[CK_LINES], const void *next, const void *later) {
    const __m256i *new = page, *old = reference;
    _mm_prefetch(later, _MM_HINT_T0);
    for (int line = 0; line < CK_LINES; line++) {
        _mm_prefetch((const char *)next + line * CK_LINE, _MM_HINT_T0);
        __m256i low = _mm256_cmpeq_epi64(_mm256_loadu_si256(new + 2 * line), _mm256_loadu_si256(old + 2 * line));
        __m256i high = _mm256_cmpeq_epi64(_mm256_loadu_si256(new + 2 * line + 1), _mm256_loadu_si256(old + 2 * line + 1));
        unsigned equal = (unsigned)_mm256_movemask_pd(_mm256_castsi256_pd(low))
            | (unsigned)_mm256_movemask_pd(_mm256_castsi256_pd(high)) << 4;
        masks[line] = (uint8_t)~equal;
    }
    return avx2_lines(masks);
}

// For each mask of four words the positions, in halves, of those that it names, moved together.
static uint32_t packing[16][8];

static void fill_packing(void) {
    for (unsigned mask = 0; mask < 16; mask++) {
        int at = 0;
        for (unsigned word = 0; word < 4; word++) {
            if (!(mask >> word & 1)) continue;
            packing[mask][at++] = 2 * word;
            packing[mask][at++] = 2 * word + 1;
        }
    }
}

AVX2 static inline uint8_t *avx2_pack(uint8_t *to, __m256i words, unsigned mask) {
    __m256i order = _mm256_loadu_si256((const __m256i *)packing[mask]);
    _mm256_storeu_si256((__m256i *)to, _mm256_permutevar8x32_epi32(words, order));
    return to + 8 * __builtin_popcount(mask);
}

AVX2 static size_t avx2_page_take(
    const void *page, void *reference, uint64_t lines, const uint8_t masks[CK_LINES], uint8_t *packed, void *out) {
    const __m256i *new = page;
    __m256i *old = reference;
    uint8_t *to = out;
    for (; lines; lines &= lines - 1) {
        int line = __builtin_ctzll(lines);
        unsigned mask = masks[line];
        *packed++ = (uint8_t)mask;
        __m256i low = _mm256_loadu_si256(new + 2 * line), high = _mm256_loadu_si256(new + 2 * line + 1);
        _mm256_storeu_si256(old + 2 * line, low);
        _mm256_storeu_si256(old + 2 * line + 1, high);
        to = avx2_pack(to, low, mask & 15);
        to = avx2_pack(to, high, mask >> 4);
    }
    return (size_t)(to - (uint8_t *)out);
}

AVX2 static void avx2_page_copy(const void *page, void *reference, void *out) {
    const __m256i *from = page;
    __m256i *one = reference, *other = out;
    for (int step = 0; step < CK_PAGE / 32; step++) {
        __m256i bytes = _mm256_loadu_si256(from + step);
        _mm256_storeu_si256(one + step, bytes);
        _mm256_storeu_si256(other + step, bytes);
    }
}

AVX512 static bool avx512_page_is_zero(const void *page) {
    const uint8_t *at = page;
    for (int step = 0; step < CK_PAGE / 256; step++, at += 256) {
        __m512i any = _mm512_or_si512(
            _mm512_or_si512(_mm512_loadu_si512(at), _mm512_loadu_si512(at + 64)),
            _mm512_or_si512(_mm512_loadu_si512(at + 128), _mm512_loadu_si512(at + 192)));
        if (_mm512_test_epi64_mask(any, any)) return false;
    }
    return true;
}

AVX512 static uint64_t avx512_page_difference(
    const void *page, const void *reference, uint8_t masks[CK_LINES], const void *next, const void *later) {
    const uint8_t *new = page, *old = reference;
    _mm_prefetch(later, _MM_HINT_T0);
    for (int line = 0; line < CK_LINES; line++) {
        _mm_prefetch((const char *)next + line * CK_LINE, _MM_HINT_T0);
        masks[line] = _mm512_cmpneq_epi64_mask(
            _mm512_loadu_si512(new + line * CK_LINE), _mm512_loadu_si512(old + line * CK_LINE));
    }
    __m512i all = _mm512_loadu_si512(masks);
    return _mm512_test_epi8_mask(all, all);
}

// Compresses in a register and stores the whole line: a compressing store is microcode on some CPUs.
AVX512 static size_t avx512_page_take(
    const void *page, void *reference, uint64_t lines, const uint8_t masks[CK_LINES], uint8_t *packed, void *out) {
    uint8_t *to = out;
    for (; lines; lines &= lines - 1) {
        int line = __builtin_ctzll(lines);
        uint8_t mask = masks[line];
        *packed++ = mask;
        __m512i words = _mm512_loadu_si512((const uint8_t *)page + (size_t)line * CK_LINE);
        _mm512_storeu_si512((uint8_t *)reference + (size_t)line * CK_LINE, words);
        _mm512_storeu_si512(to, _mm512_maskz_compress_epi64(mask, words));
        to += 8 * __builtin_popcount(mask);
    }
    return (size_t)(to - (uint8_t *)out);
}

AVX512 static void avx512_page_copy(const void *page, void *reference, void *out) {
    for (int line = 0; line < CK_LINES; line++) {
        __m512i bytes = _mm512_loadu_si512((const uint8_t *)page + line * CK_LINE);
        _mm512_storeu_si512((uint8_t *)reference + line * CK_LINE, bytes);
        _mm512_storeu_si512((uint8_t *)out + line * CK_LINE, bytes);
    }
}

static inline uint32_t append_zeros(const zeros_operator *operator, uint64_t crc) {
    return operator->of[0][crc & 0xff] ^ operator->of[1][crc >> 8 & 0xff] ^ operator->of[2][crc >> 16 & 0xff]
        ^ operator->of[3][crc >> 24 & 0xff];
}

// Three runs at once: the instruction takes three cycles but a new one may start in each.
SSE42 static inline uint64_t three_runs(
    uint64_t crc, const uint8_t *at, size_t run, const zeros_operator *operator) {
    uint64_t second = 0, third = 0;
    for (size_t step = 0; step < run; step += 8) {
        crc = _mm_crc32_u64(crc, load64(at + step));
        second = _mm_crc32_u64(second, load64(at + run + step));
        third = _mm_crc32_u64(third, load64(at + 2 * run + step));
    }
    crc = append_zeros(operator, crc) ^ second;
    return append_zeros(operator, crc) ^ third;
}

SSE42 static uint32_t sse42_crc32c(uint32_t start, const void *bytes, size_t length) {
    const uint8_t *at = bytes;
    uint64_t crc = ~start;
    for (; length >= 3 * LONG_RUN; at += 3 * LONG_RUN, length -= 3 * LONG_RUN) {
        crc = three_runs(crc, at, LONG_RUN, &long_zeros);
    }
    for (; length >= 3 * SHORT_RUN; at += 3 * SHORT_RUN, length -= 3 * SHORT_RUN) {
        crc = three_runs(crc, at, SHORT_RUN, &short_zeros);
    }
    for (; length >= 8; at += 8, length -= 8) crc = _mm_crc32_u64(crc, load64(at));
    for (; length; length--) crc = _mm_crc32_u8((uint32_t)crc, *at++);
    return ~(uint32_t)crc;
}
#endif

// The choice

static ck_kernels levels[3];
static bool runs[3];
static ck_kernels best;

__attribute__((constructor)) static void choose(void) {
    for (uint32_t byte = 0; byte < 256; byte++) {
        uint32_t crc = byte;
        for (int bit = 0; bit < 8; bit++) crc = (crc & 1) ? (crc >> 1) ^ polynomial : crc >> 1;
        byte_table[byte] = crc;
    }
    fill_zeros_operator(&long_zeros, LONG_RUN);
    fill_zeros_operator(&short_zeros, SHORT_RUN);

    levels[CK_PLAIN] =
        (ck_kernels){plain_page_is_zero, plain_page_difference, plain_page_take, plain_page_copy, plain_crc32c};
    runs[CK_PLAIN] = true;
    best = levels[CK_PLAIN];
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("sse4.2")) best.crc32c = sse42_crc32c;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("sse4.2")) {
        fill_packing();
        levels[CK_AVX2] =
            (ck_kernels){avx2_page_is_zero, avx2_page_difference, avx2_page_take, avx2_page_copy, sse42_crc32c};
        runs[CK_AVX2] = true;
        best = levels[CK_AVX2];
    }
    if (runs[CK_AVX2] && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw")
        && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq")) {
        levels[CK_AVX512] = (ck_kernels){
            avx512_page_is_zero, avx512_page_difference, avx512_page_take, avx512_page_copy, sse42_crc32c};
        runs[CK_AVX512] = true;
        best = levels[CK_AVX512];
    }
#endif
}

const ck_kernels *ck_kernels_at(int level) {
    return level >= CK_PLAIN && level <= CK_AVX512 && runs[level] ? &levels[level] : NULL;
}

bool ck_page_is_zero(const void *page) { return best.page_is_zero(page); }

uint64_t ck_page_difference(
    const void *page, const void *reference, uint8_t masks[CK_LINES], const void *next, const void *later) {
    return best.page_difference(page, reference, masks, next, later);
}

size_t ck_page_take(
    const void *page, void *reference, uint64_t lines, const uint8_t masks[CK_LINES], uint8_t *packed, void *out) {
    return best.page_take(page, reference, lines, masks, packed, out);
}

void ck_page_copy(const void *page, void *reference, void *out) { best.page_copy(page, reference, out); }

// Sixteen words, one of each 256 bytes, at different places of their lines; in four rows that do not wait for each other.
uint32_t ck_page_sample(const void *page) {
    uint64_t row[4] = {1, 2, 3, 4};
    for (size_t step = 0; step < 16; step++) {
        uint64_t word = load64((const uint8_t *)page + step * 256 + step % 4 * 64 + step * 24 % 64);
        row[step % 4] = (row[step % 4] ^ word) * 0x9e3779b97f4a7c15u;
        row[step % 4] ^= row[step % 4] >> 29;
    }
    return (uint32_t)(((row[0] * 3 + row[1]) * 5 + row[2]) * 7 + row[3]);
}

// In 256 bytes that are evenly distributed 127.5 pairs are alike, with a standard deviation of 11.3; text has hundreds.
bool ck_page_looks_random(const void *page) {
    uint8_t seen[256] = {0};
    unsigned pairs = 0;
    for (size_t step = 0; step < 256; step++) {
        uint8_t byte = ((const uint8_t *)page)[step * 16 + step * 7 % 16];
        pairs += seen[byte]++;
    }
    return pairs < 172;
}

void ck_page_scatter(void *page, uint64_t lines, const uint8_t *masks, const void *words) {
    const uint8_t *from = words;
    for (; lines; lines &= lines - 1) {
        uint8_t *line = (uint8_t *)page + (size_t)__builtin_ctzll(lines) * CK_LINE;
        unsigned mask = *masks++;
        if (mask == 0xff) {
            memcpy(line, from, CK_LINE);
            from += CK_LINE;
            continue;
        }
        for (; mask; mask &= mask - 1, from += 8) memcpy(line + 8 * __builtin_ctz(mask), from, 8);
    }
}

uint32_t ck_crc32c(uint32_t crc, const void *bytes, size_t length) { return best.crc32c(crc, bytes, length); }
