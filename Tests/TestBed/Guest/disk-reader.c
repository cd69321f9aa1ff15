/* Reads a disk for ever, with O_DIRECT, and knows what has to come: every sector of it begins with its own number.
 *
 *   disk-reader DISK REPORT
 *
 * Some threads read blocks of 64 KiB at random places into a ring of buffers. A buffer is poisoned before each read, compared
 * after it, and compared once more before it is used again: what a read brought must be there, and stay. On SIGTERM all
 * buffers are compared, and REPORT gets one line: "reads=N wrong=SECTORS first=SECTOR". */
#include "guest.h"
#include <pthread.h>

enum { threads = 4, block_size = 65536, sector_size = 512, slots = 64 };

static int disk;
static uint64_t blocks;
static volatile sig_atomic_t is_over;
static struct reader {
    uint64_t *ring;          /* slots blocks */
    uint64_t holds[slots];   /* the block that is in each slot, plus one; 0 before the first */
    uint64_t reads, wrong, first, seed;
} readers[threads];

static void compare(struct reader *reader, int slot) {
    if (reader->holds[slot] == 0) return;
    const uint64_t *words = reader->ring + (uint64_t)slot * (block_size / 8);
    uint64_t sector = (reader->holds[slot] - 1) * (block_size / sector_size);
    for (int i = 0; i < block_size / sector_size; i++, sector++)
        if (words[i * (sector_size / 8)] != sector) {
            if (reader->wrong++ == 0) reader->first = sector;
        }
}

static void *read_blocks(void *argument) {
    struct reader *reader = argument;
    for (int slot = 0; !is_over; slot = (slot + 1) % slots) {
        compare(reader, slot);
        reader->holds[slot] = 0;
        uint64_t *buffer = reader->ring + (uint64_t)slot * (block_size / 8);
        memset(buffer, 0xee, block_size);
        uint64_t block = mix(reader->seed + reader->reads) % blocks;
        if (pread(disk, buffer, block_size, (off_t)(block * block_size)) != block_size) fail("read");
        reader->holds[slot] = block + 1;
        reader->reads++;
        compare(reader, slot);
    }
    return NULL;
}

static void stop(int signal) {
    (void)signal;
    is_over = 1;
}

int main(int count, char **arguments) {
    if (count != 3) return 64;
    disk = open(arguments[1], O_RDONLY | O_DIRECT | O_CLOEXEC);
    off_t size = disk < 0 ? 0 : lseek(disk, 0, SEEK_END);
    if (size < block_size) fail(arguments[1]);
    blocks = (uint64_t)size / block_size;
    signal(SIGTERM, stop);
    pthread_t ids[threads];
    for (int i = 0; i < threads; i++) {
        readers[i].seed = (uint64_t)i << 32;
        if (posix_memalign((void **)&readers[i].ring, block_size, slots * block_size) != 0) fail("memory");
        if (pthread_create(&ids[i], NULL, read_blocks, &readers[i]) != 0) fail("thread");
    }
    uint64_t reads = 0, wrong = 0, first = 0;
    for (int i = 0; i < threads; i++) {
        pthread_join(ids[i], NULL);
        for (int slot = 0; slot < slots; slot++) compare(&readers[i], slot);
        if (wrong == 0) first = readers[i].first;
        reads += readers[i].reads;
        wrong += readers[i].wrong;
    }
    FILE *report = fopen(arguments[2], "w");
    if (report == NULL) fail(arguments[2]);
    fprintf(report, "reads=%llu wrong=%llu first=%llu\n", (unsigned long long)reads, (unsigned long long)wrong,
            (unsigned long long)first);
    fclose(report);
    return 0;
}
