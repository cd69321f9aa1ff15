// Kernels over 4 KiB pages and byte runs: what the codec does to every page and the wire to every byte.
//
// They are C because the best instructions differ by CPU and Swift cannot choose a function's target at run time. Each
// kernel exists plain (any CPU) and, on x86-64, for AVX2 and AVX-512; the best one that this CPU runs is chosen when the
// process starts. Nothing here allocates, blocks or keeps a pointer; a kernel touches only what its comment names.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CK_PAGE 4096
#define CK_LINE 64
#define CK_LINES 64
/// What `ck_page_take` may write past the words it returns; its output needs this much room beyond them.
#define CK_SLACK 64

enum ck_level { CK_PLAIN = 0, CK_AVX2 = 1, CK_AVX512 = 2 };

/// The set of kernels for one level, so that tests can hold every one of them against its twin.
typedef struct {
    bool (*page_is_zero)(const void *page);
    uint64_t (*page_difference)(
        const void *page, const void *reference, uint8_t masks[CK_LINES], const void *next, const void *later);
    size_t (*page_take)(
        const void *page, void *reference, uint64_t lines, const uint8_t masks[CK_LINES], uint8_t *packed, void *out);
    void (*page_copy)(const void *page, void *reference, void *out);
    uint32_t (*crc32c)(uint32_t crc, const void *bytes, size_t length);
} ck_kernels;

/// The kernels of a level, or NULL when this CPU (or this build's architecture) does not run them.
const ck_kernels *ck_kernels_at(int level);

/// True when all 4096 bytes are zero.
bool ck_page_is_zero(const void *page);

/// Compares two pages in lines of 64 bytes, lines in words of 8. Bit i of the result is set when line i differs;
/// masks[i] then has bit w set when word w of that line differs, and is 0 for a line that does not.
///
/// `next` is the reference of the page that will be compared next, and is fetched into the cache meanwhile; `later` is that
/// of one some pages on, whose address is looked up: references lie scattered and come from memory. Any addresses will do.
uint64_t ck_page_difference(
    const void *page, const void *reference, uint8_t masks[CK_LINES], const void *next, const void *later);

/// Takes the changes of a page over into its reference and out of it, for the lines in `lines`: copies them to `reference`,
/// writes their masks one after the other to `packed`, and the words that the masks name to `out`. Returns the bytes of
/// those words; up to CK_SLACK bytes beyond them may be overwritten.
size_t ck_page_take(
    const void *page, void *reference, uint64_t lines, const uint8_t masks[CK_LINES], uint8_t *packed, void *out);

/// Copies a whole page to both places.
void ck_page_copy(const void *page, void *reference, void *out);

/// A number for a page, from 128 of its bytes: equal pages have equal ones, and different pages most often do not.
uint32_t ck_page_sample(const void *page);

/// Whether a page's bytes look evenly distributed, as encrypted or compressed ones are; told from 256 of them. Such a page
/// is not worth the time of a compressor.
bool ck_page_looks_random(const void *page);

/// The reverse, at the standby: puts the words at `words` into `page`. `masks` holds one byte for each set bit of
/// `lines`, in order. Exactly the words named are read and written; their count must have been checked before.
void ck_page_scatter(void *page, uint64_t lines, const uint8_t *masks, const void *words);

/// CRC-32C (Castagnoli, reflected 0x82f63b78, initial and final inversion): of `bytes`, continuing `crc`, which is 0 at
/// the start. The check value of "123456789" is 0xe3069283.
uint32_t ck_crc32c(uint32_t crc, const void *bytes, size_t length);
