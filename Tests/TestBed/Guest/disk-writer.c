/* A ledger on a disk: every record carries its number and a checksum, and is reported once it is durable.
 *
 * The device is an array of slots of 4096 bytes. Record n goes to slot n mod S (sequential) or to a slot that follows
 * from n alone (random); the client is told (n, slot) only after fdatasync of that record, so what the client knows
 * must be on whatever disk the guest runs from later. All I/O is O_DIRECT: a check never sees the guest's page cache.
 * One connection is one run or one check:
 *
 *   write disk=/dev/vda first=0 slots=1024 from=1 pattern=sequential|random interval_us=1000 run=ID
 *       -> one report of 24 bytes for each record: number u64, slot u64, checksum u32, 0 u32; until the client
 *          shuts down its sending side, then a report with number 0 whose slot field is the last number written
 *   read disk=/dev/vda first=0 slots=1024 run=ID
 *       -> one report for each slot: number (0: no whole record of this run), slot, checksum, state u32
 *          (0 whole, 1 empty or of another run, 2 torn or changed)
 *
 * A refused order is answered with one line "error: …" and the end of the connection. */
#include "guest.h"
#include <poll.h>

enum { slot_size = 4096, words = slot_size / 8 };
enum { whole = 0, foreign = 1, torn = 2 };
static const uint64_t magic = 0x3152474c534c4d52u; /* "RMLSLGR1" */

struct record {
    uint64_t magic, run, number, slot;
    uint64_t filler[words - 5];
    uint32_t reserved, checksum; /* CRC-32C of all before the checksum */
};
_Static_assert(sizeof(struct record) == slot_size, "a record fills its slot");

struct report {
    uint64_t number, slot;
    uint32_t checksum, state;
};

struct order {
    char disk[64], pattern[16];
    uint64_t first, slots, from, run;
    long long interval_us;
};

static struct record *record;

static int parse(const char *line, struct order *order) {
    if (word_in(line, "disk", order->disk, sizeof order->disk) <= 0) return -1;
    order->pattern[0] = 0;
    word_in(line, "pattern", order->pattern, sizeof order->pattern);
    order->first = (uint64_t)number_in(line, "first", 0);
    order->slots = (uint64_t)number_in(line, "slots", 1024);
    order->from = (uint64_t)number_in(line, "from", 1);
    order->run = (uint64_t)number_in(line, "run", 1);
    order->interval_us = number_in(line, "interval_us", 1000);
    return order->slots > 0 && order->from > 0 && order->interval_us >= 0 ? 0 : -1;
}

static void compose(const struct order *order, uint64_t number, uint64_t slot) {
    *record = (struct record){.magic = magic, .run = order->run, .number = number, .slot = slot};
    uint64_t seed = mix(order->run ^ mix(number));
    for (int i = 0; i < words - 5; i++) record->filler[i] = mix(seed + (uint64_t)i);
    record->checksum = crc32c(record, slot_size - sizeof record->checksum);
}

static int is_over(int fd) {
    struct pollfd poller = {.fd = fd, .events = POLLIN};
    char byte;
    return poll(&poller, 1, 0) > 0 && read(fd, &byte, 1) <= 0;
}

static void write_ledger(int fd, int disk, const struct order *order) {
    uint64_t number = order->from, next = monotonic_ns();
    for (; !is_over(fd); number++) {
        uint64_t slot = (strcmp(order->pattern, "random") == 0 ? mix(order->run ^ number) : number) % order->slots;
        compose(order, number, slot);
        if (pwrite(disk, record, slot_size, (off_t)((order->first + slot) * slot_size)) != slot_size ||
            fdatasync(disk) < 0) {
            reply(fd, "error: record %llu: %s\n", (unsigned long long)number, strerror(errno));
            return;
        }
        struct report report = {.number = number, .slot = slot, .checksum = record->checksum};
        if (write_all(fd, &report, sizeof report) < 0) return;
        uint64_t now = monotonic_ns();
        next += (uint64_t)order->interval_us * 1000u;
        if (next < now) next = now; /* no burst after a pause */
        sleep_until_ns(next);
    }
    struct report last = {.number = 0, .slot = number - 1};
    write_all(fd, &last, sizeof last);
}

static void read_ledger(int fd, int disk, const struct order *order) {
    for (uint64_t slot = 0; slot < order->slots; slot++) {
        if (pread(disk, record, slot_size, (off_t)((order->first + slot) * slot_size)) != slot_size) {
            reply(fd, "error: slot %llu: %s\n", (unsigned long long)slot, strerror(errno));
            return;
        }
        struct report report = {.slot = slot, .state = foreign};
        if (record->magic == magic && record->run == order->run) {
            int is_right = record->slot == slot &&
                           record->checksum == crc32c(record, slot_size - sizeof record->checksum);
            report.state = is_right ? whole : torn;
            report.number = is_right ? record->number : 0;
            report.checksum = record->checksum;
        }
        if (write_all(fd, &report, sizeof report) < 0) return;
    }
}

static void session(int fd) {
    char line[512];
    struct order order;
    if (read_line(fd, line, sizeof line) < 0) return;
    int is_write = strncmp(line, "write ", 6) == 0;
    if ((!is_write && strncmp(line, "read ", 5) != 0) || parse(line, &order) < 0) {
        reply(fd, "error: write or read with disk=, slots= and run=\n");
        return;
    }
    int disk = open(order.disk, (is_write ? O_RDWR : O_RDONLY) | O_DIRECT | O_CLOEXEC);
    if (disk < 0 || posix_memalign((void **)&record, slot_size, slot_size) != 0) {
        reply(fd, "error: %s: %s\n", order.disk, strerror(errno));
        return;
    }
    if (is_write)
        write_ledger(fd, disk, &order);
    else
        read_ledger(fd, disk, &order);
}

int main(int count, char **arguments) {
    serve((uint16_t)(count > 1 ? atoi(arguments[1]) : 9), session);
}
