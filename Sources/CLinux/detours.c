#define _GNU_SOURCE
#include "detours.h"
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/filter.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <linux/sockios.h>
#include <arpa/inet.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

// Flags of attaching that are newer than the headers.
enum { BEFORE = 1 << 3 };

static long bpf(int command, void *attributes, unsigned size) {
    return rml_result(syscall(SYS_bpf, command, attributes, size));
}

static void disable_ipv6(const char *name) {
    char path[80];
    snprintf(path, sizeof path, "/proc/sys/net/ipv6/conf/%s/disable_ipv6", name);
    int file = open(path, O_WRONLY | O_CLOEXEC);
    if (file < 0) return;
    // Without it the kernel would send a few frames of its own there, which the egress program drops.
    ssize_t written = write(file, "1", 1);
    (void)written;
    close(file);
}

static int with_device(const char *name, int (*body)(int control, struct ifreq *request, int value), int value) {
    int control = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (control < 0) return -errno;
    struct ifreq request = {.ifr_flags = 0};
    strncpy(request.ifr_name, name, IFNAMSIZ - 1);
    int result = body(control, &request, value);
    close(control);
    return result;
}

static int bring_up(int control, struct ifreq *request, int queue) {
    request->ifr_qlen = queue;
    long result = rml_result(ioctl(control, SIOCSIFTXQLEN, request));
    if (result >= 0) {
        request->ifr_mtu = 65521;
        result = rml_result(ioctl(control, SIOCSIFMTU, request));
    }
    if (result >= 0) {
        request->ifr_flags = IFF_UP;
        result = rml_result(ioctl(control, SIOCSIFFLAGS, request));
    }
    return (int)result;
}

static int is_idle(int control, struct ifreq *request, int unused) {
    (void)unused;
    long result = rml_result(ioctl(control, SIOCGIFFLAGS, request));
    if (result < 0) return (int)result;
    return (request->ifr_flags & IFF_UP) != 0 && (request->ifr_flags & IFF_RUNNING) == 0;
}

int rml_device_up(const char *name, int queue) { return with_device(name, bring_up, queue); }

int rml_device_idle(const char *name) { return with_device(name, is_idle, 0); }

int rml_device_address(const char *name, const uint8_t address[6]) {
    int control = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (control < 0) return -errno;
    struct ifreq request = {.ifr_flags = 0};
    strncpy(request.ifr_name, name, IFNAMSIZ - 1);
    request.ifr_hwaddr.sa_family = ARPHRD_ETHER;
    memcpy(request.ifr_hwaddr.sa_data, address, 6);
    long result = rml_result(ioctl(control, SIOCSIFHWADDR, &request));
    close(control);
    return (int)result;
}

static int enter(int control, struct ifreq *request, int device) {
    request->ifr_ifindex = device;
    return (int)rml_result(ioctl(control, SIOCBRADDIF, request));
}

static int leave(int control, struct ifreq *request, int device) {
    request->ifr_ifindex = device;
    return (int)rml_result(ioctl(control, SIOCBRDELIF, request));
}

int rml_bridge_enter(const char *bridge, int device) { return with_device(bridge, enter, device); }

int rml_bridge_leave(const char *bridge, int device) { return with_device(bridge, leave, device); }

int rml_packet_hear_all(int socket, uint16_t type, int all) {
    enum { LENGTH = 96 };
    struct sock_filter filter[] = {
        // What goes to others, or out, is not for us.
        BPF_STMT(BPF_LD | BPF_B | BPF_ABS, (uint32_t)(SKF_AD_OFF + SKF_AD_PKTTYPE)),
        BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, PACKET_OTHERHOST, 4, 0),
        BPF_STMT(BPF_LD | BPF_H | BPF_ABS, 12),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, type, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, (uint32_t)(all ? LENGTH : 0)),
        BPF_STMT(BPF_RET | BPF_K, LENGTH),
        BPF_STMT(BPF_RET | BPF_K, 0),
    };
    struct sock_fprog program = {.len = sizeof filter / sizeof filter[0], .filter = filter};
    return (int)rml_result(setsockopt(socket, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program));
}

int rml_packet_socket(int device, uint16_t type) {
    // Without a protocol it hears nothing before the filter is there.
    int number = (int)rml_result(socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (number < 0) return number;
    struct sockaddr_ll place = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL), .sll_ifindex = device};
    long result = rml_packet_hear_all(number, type, 0);
    if (result >= 0) result = rml_result(bind(number, (struct sockaddr *)&place, sizeof place));
    if (result < 0) {
        close(number);
        return (int)result;
    }
    return number;
}

int rml_tap_make(const char *pattern, char *name) {
    int device = (int)rml_result(open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK));
    if (device < 0) return device;
    struct ifreq request = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};
    strncpy(request.ifr_name, pattern, IFNAMSIZ - 1);
    int header = 12;
    long result = rml_result(ioctl(device, TUNSETIFF, &request));
    if (result >= 0) result = rml_result(ioctl(device, TUNSETVNETHDRSZ, &header));
    if (result >= 0) result = rml_result(ioctl(device, TUNSETOFFLOAD, TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6));
    if (result < 0) {
        close(device);
        return (int)result;
    }
    memcpy(name, request.ifr_name, IFNAMSIZ);
    disable_ipv6(name);
    return device;
}

int rml_program_load(const uint64_t *instructions, unsigned count, const char *name) {
    union bpf_attr attributes;
    memset(&attributes, 0, sizeof attributes);
    attributes.prog_type = BPF_PROG_TYPE_SCHED_CLS;
    attributes.insns = (uint64_t)(uintptr_t)instructions;
    attributes.insn_cnt = count;
    attributes.license = (uint64_t)(uintptr_t) "Dual MIT/GPL";
    strncpy(attributes.prog_name, name, sizeof attributes.prog_name - 1);
    return (int)bpf(BPF_PROG_LOAD, &attributes, sizeof attributes);
}

// What BPF_PROG_ATTACH and BPF_PROG_DETACH take since Linux 6.6.
struct attachment {
    uint32_t device, program, hook, flags, replaced, relative;
    uint64_t revision;
};

int rml_program_attach(int program, int device, int hook, int replaced) {
    struct attachment attachment = {
        .device = (uint32_t)device,
        .program = (uint32_t)program,
        .hook = (uint32_t)hook,
        .flags = replaced < 0 ? BEFORE : BPF_F_REPLACE,
        .replaced = replaced < 0 ? 0 : (uint32_t)replaced,
    };
    return (int)bpf(BPF_PROG_ATTACH, &attachment, sizeof attachment);
}

int rml_program_detach(int program, int device, int hook) {
    struct attachment attachment = {
        .device = (uint32_t)device, .program = (uint32_t)program, .hook = (uint32_t)hook};
    return (int)bpf(BPF_PROG_DETACH, &attachment, sizeof attachment);
}

int rml_programs(int device, int hook, uint32_t *numbers, unsigned max) {
    struct {
        uint32_t device, hook, flags, attach_flags;
        uint64_t numbers;
        uint32_t count, unused;
        uint64_t program_flags, links, link_flags, revision;
    } query = {
        .device = (uint32_t)device, .hook = (uint32_t)hook, .numbers = (uint64_t)(uintptr_t)numbers, .count = max};
    long result = bpf(BPF_PROG_QUERY, &query, sizeof query);
    return result < 0 ? (int)result : (int)query.count;
}

int rml_program_open(uint32_t number) {
    union bpf_attr attributes;
    memset(&attributes, 0, sizeof attributes);
    attributes.prog_id = number;
    return (int)bpf(BPF_PROG_GET_FD_BY_ID, &attributes, sizeof attributes);
}

static int program_info(int program, struct bpf_prog_info *info) {
    memset(info, 0, sizeof *info);
    union bpf_attr attributes;
    memset(&attributes, 0, sizeof attributes);
    attributes.info.bpf_fd = (uint32_t)program;
    attributes.info.info_len = sizeof *info;
    attributes.info.info = (uint64_t)(uintptr_t)info;
    return (int)bpf(BPF_OBJ_GET_INFO_BY_FD, &attributes, sizeof attributes);
}

int rml_program_number(int program, uint32_t *number) {
    struct bpf_prog_info info;
    int result = program_info(program, &info);
    if (result >= 0) *number = info.id;
    return result;
}

int rml_program_name(int program, char *name) {
    struct bpf_prog_info info;
    int result = program_info(program, &info);
    if (result >= 0) memcpy(name, info.name, BPF_OBJ_NAME_LEN);
    return result;
}
