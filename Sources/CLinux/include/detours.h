#pragma once
// Network devices whose frames a process reads and writes (tun(4)), and small programs at the hooks of devices (bpf(2), TCX).
//
// Why it exists: the kernel's attributes are unions that Swift does not import, the headers of Debian 12 are older than the
// hooks (Linux 6.6), ioctl is variadic; and errno must be folded (result.h).

#include "result.h"

// A tap of a name that the kernel makes of `pattern` ("x%d"), without IPv6, not up yet, with frames of whatever length a guest can
// send behind a struct virtio_net_hdr_mrg_rxbuf of 12 bytes. `name` gets 16 bytes.
int rml_tap_make(const char *pattern, char *name);
// Brings a device up, with room for `queue` frames.
int rml_device_up(const char *name, int queue);

// The Ethernet address of a device, which is down or allows a change while it is up.
int rml_device_address(const char *name, const uint8_t address[6]);
// Makes a device a member of a bridge, or takes it out of it.
int rml_bridge_enter(const char *bridge, int device);
int rml_bridge_leave(const char *bridge, int device);

// A packet socket (packet(7)) at one device: what is written leaves there as it is. Read from it are the first 96 bytes of frames
// that came in: those of EtherType `type`; with `rml_packet_hear_all` also all that were sent to this host, to a group or to all.
int rml_packet_socket(int device, uint16_t type);
int rml_packet_hear_all(int socket, uint16_t type, int all);

// 1 for a device that is up and has nothing at its other end: a tap that no process has open. Else 0, or -errno.
int rml_device_idle(const char *name);

// A program of class BPF_PROG_TYPE_SCHED_CLS; each instruction is 8 bytes. Returns its descriptor.
int rml_program_load(const uint64_t *instructions, unsigned count, const char *name);
// Puts a program at a device's hook, before all others there, or in the place of the program `replaced` (-1 for none).
int rml_program_attach(int program, int device, int hook, int replaced);
int rml_program_detach(int program, int device, int hook);
// The numbers of the programs at a device's hook; returns how many there are.
int rml_programs(int device, int hook, uint32_t *numbers, unsigned max);
// The number of a program.
int rml_program_number(int program, uint32_t *number);
// A descriptor of the program with that number.
int rml_program_open(uint32_t number);
// `name` gets 16 bytes.
int rml_program_name(int program, char *name);
