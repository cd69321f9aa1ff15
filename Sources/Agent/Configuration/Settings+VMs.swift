import Journal
import Model
import Pair
import Protocol
import RomulusAPI

/// Keys of VMs, and of what holds for all of them.
extension Settings {
    private static let levelForm = "restart, component or system"
    private static func level(_ text: String) -> Level? { Level(rawValue: text) }
    private static let degradeForm = "never, restart or component"
    private static func degrade(_ text: String) -> DegradePolicy? { DegradePolicy(rawValue: text) }
    private static let day = 86_400
    private static let silenceForm = "0, or a whole number from 5 to 3600"
    private static func silence(_ text: String) -> Int? {
        Int(text).flatMap { $0 == 0 || (5...3600).contains($0) ? $0 : nil }
    }

    enum Defaults {
        static let epoch = Setting.integer(
            "epoch_ms", TuningRange.epochMilliseconds, default: 20, "the longest epoch of a guest that works")
        static let idleEpoch = Setting.integer(
            "idle_epoch_ms", TuningRange.epochMilliseconds, default: 1000,
            "the longest epoch of a guest that hardly works and sends nothing")
        static let checkpointOnOutput = Setting.flag(
            "checkpoint_on_output", default: true,
            "an epoch ends as soon as output waits for it; false: only after epoch_ms")
        static let pauseBudget = Setting.integer(
            "pause_budget_percent", TuningRange.pauseBudget, default: 25,
            "of a guest's work, how much its pauses because of its output may cost")
        static let realTime = Setting.flag(
            "realtime", default: true,
            "checkpoints come before whatever else the host computes (SCHED_RR, CAP_SYS_NICE)")
        static let awake = Setting.flag(
            "awake", default: true, "this host's processors do not sleep deeply while a checkpoint is on its way")
        static let level = Setting.value(
            "level", levelForm, Settings.level, default: (.system, "system"),
            "what a VM survives: restart, with a boot; component, also a lost disk or network; system, unnoticed; see docs/DIAL.md"
        )
        static let degrade = Setting.value(
            "degrade", degradeForm, Settings.degrade,
            "the level that a VM falls to by itself when level system cannot be held; needs an arbiter; see"
                + " docs/DEGRADE.md",
            absent: "never", example: "restart")
        static let degradeAfter = Setting.integer(
            "degrade_after_ms", 200...600_000, default: 2000,
            "the longest time that a guest's output may wait, or the guest stand, because epochs are not acknowledged")
        static let degradeTarget = Setting.integer(
            "degrade_target_s", 0...day, default: 0,
            "a VM falls, too, when its target_latency_ms or target_overhead_percent was missed for so long; 0: it does not"
        )
        static let degradeRetry = Setting.integer(
            "degrade_retry_s", 1...3600, default: 30,
            "how long a VM stays below after a first fall; twice as long after each further one, up to an hour")
        static let reprotect = Setting<PrimaryMachine.Reprotection>.choice(
            "reprotect", [("automatic", .automatic), ("manual", .manual)], default: "automatic",
            "a lost standby is replaced without being asked to")
        static let standbyLost = Setting<PrimaryMachine.LonelyPolicy>.choice(
            "standby_lost", [("run-alone", .runAlone), ("freeze", .freeze)], default: "run-alone",
            "without an arbiter, when the standby is lost: run-alone lets the guest go on at once; freeze holds its output"
                + " until the operator decides by “romulus go-on”")
        static let coldBoot = Setting.flag(
            "cold_boot", default: true,
            "a guest whose checkpoint does not load here at a failover is booted from its disk, without its memory; false: it"
                + " stays down, see docs/COLD-BOOT.md")
        static let restarts = Setting.integer(
            "restarts", 0...100, default: 3,
            "at level restart, how many times within restart_window_minutes a guest that dies is started again where it ran;"
                + " then the standby starts it, once; see docs/RESTART.md")
        static let restartWindow = Setting.integer(
            "restart_window_minutes", 1...10_080, default: 10, "starts that are longer ago do not count")
        static let agentSilence = Setting.value(
            "guest_agent_silence_seconds", silenceForm, Settings.silence, default: (0, "0"),
            "a guest is reset whose guest agent answered and then does not for so long (5 to 3600); 0: it is not asked; see"
                + " docs/RESTART.md")
        static let linkCap = Setting.integer(
            "link_cap_mbit", TuningRange.linkCapMegabits, default: 0,
            "the most that one VM's replication may send, in Mbit/s; 0: what the link takes")
        static let referenceCache = Setting.integer(
            "reference_cache_mib", 0...1_048_576, default: 0,
            "the most memory for the copies that a VM's pages are compared with, in MiB; 0: what it writes")
        static let replaceAfter = Setting.integer(
            "replace_after", 0...day, default: 60,
            "how long a standby may be lost before one in reserve takes its place, in seconds")
        static let diskFault = Setting<DiskFaultPolicy>.choice(
            "disk_fault", [("failover", .failover), ("report", .report)], default: "failover",
            "a disk of the primary's fails or hangs: the standby goes on with the guest as it was before, or the guest sees it;"
                + " see docs/DISK-FAULTS.md")
        static let diskTimeout = Setting.integer(
            "disk_timeout_ms", 500...9000, default: 5000,
            "disks that keep a checkpoint waiting for longer hang, in milliseconds")
        static let diskBound = Setting.integer(
            "disk_bound_ms", 50...60_000, default: 1000,
            "at level component, how long a disk of the guest's host may take for a request before the other host's copy is gone on"
                + " with, in milliseconds; see docs/COMPONENT.md")
        static let diskRejoin = Setting.integer(
            "disk_rejoin_seconds", 0...day, default: 30,
            "how often it is tried to copy to a disk that was lost what it lacks; 0: by “romulus rejoin” only")
        static let keepMemory = Setting.integer(
            "keep_memory_minutes", 0...10_080, default: 60,
            "a lost replica's memory is kept, so that less is sent again; 0: not")
        static let entry = SettingEntry.section(
            "defaults", "what holds for VMs that do not say otherwise",
            [
                epoch.entry, idleEpoch.entry, checkpointOnOutput.entry, pauseBudget.entry, realTime.entry, awake.entry,
                level.entry, degrade.entry, degradeAfter.entry, degradeTarget.entry, degradeRetry.entry,
                reprotect.entry, standbyLost.entry, coldBoot.entry,
                restarts.entry, restartWindow.entry, agentSilence.entry, linkCap.entry, referenceCache.entry,
                replaceAfter.entry,
                diskFault.entry, diskTimeout.entry, diskBound.entry, diskRejoin.entry, keepMemory.entry,
            ])
    }

    enum Detection {
        static let heartbeat = Setting.integer(
            "heartbeat_ms", 10...10_000, default: 50, "how often each side says that it is there")
        static let silence = Setting.integer(
            "silence_ms", 50...600_000, default: 500, "the most that is borne, at least three heartbeats")
        static let silenceFloor = Setting.integer(
            "silence_floor_ms", 30...600_000,
            "the least that is borne, at least three heartbeats and at most silence_ms",
            absent: "300, or what comes nearest", example: "300")
        static let networkProbes = Setting.flag(
            "network_probes", default: true,
            "at level component, frames in the guests' networks tell a network that is cut; see docs/CARRY.md")
        static let entry = SettingEntry.section(
            "detection",
            "when the other host counts as lost; see docs/DETECTION.md. How much silence is borne follows what was seen of it",
            [heartbeat.entry, silence.entry, silenceFloor.entry, networkProbes.entry])
    }

    enum Journal {
        private static let standard = JournalLimits()
        static let days = Setting.integer(
            "days", JournalLimits.daysRange, default: standard.days, "the newest 1000 events stay whatever their age")
        static let events = Setting.integer(
            "events", JournalLimits.eventsRange, default: standard.events,
            "each takes about 300 bytes of state_directory")
        static let entry = SettingEntry.section(
            "journal",
            "the journal of what happened and why (“romulus events”, “romulus why”). What exceeds either bound goes, oldest"
                + " first", [days.entry, events.entry])
    }

    enum QEMU {
        static let binary = Setting.path(
            "binary", "the program that is started", absent: "the same path as the primary's",
            example: "/usr/bin/qemu-system-x86_64")
        static let sandbox = Setting.flag(
            "sandbox", default: true, "QEMU's own seccomp sandbox, also when the primary has none")
        static let entry = SettingEntry.section("qemu", "the standby's QEMU processes", [binary.entry, sandbox.entry])
    }

    enum Libvirt {
        static let uri = Setting.value(
            "uri", "a connection URI of libvirt, such as qemu:///system",
            { $0.hasPrefix("qemu") && $0.contains("://") ? $0 : nil },
            default: (Configuration.LibvirtPlace().uri, Configuration.LibvirtPlace().uri),
            "the daemon that has this host's domains")
        static let monitors = Setting.path(
            "monitor_directory", default: Configuration.LibvirtPlace().monitorDirectory,
            "where second monitors are made; the user that QEMU runs as must be able to make sockets there")
        static let entry = SettingEntry.section(
            "libvirt", "domains of libvirt on this host; see docs/LIBVIRT.md", [uri.entry, monitors.entry])
    }

    enum VM {
        static let qmp = Setting.value(
            "qmp", "the absolute path of a QMP socket", socketPath, "its monitor, when this host is the primary",
            absent: "none", example: "/run/vm/web.qmp", place: .set)
        static let standbyForm = "the name of a peer, or a list of such names"
        static let standby = Setting.value(
            "standby", standbyForm, { $0.isEmpty ? nil : $0 },
            "or a list, such as [beta, gamma]: gamma is in reserve", absent: "none", example: "beta", place: .set)
        static let replaceAfter = Setting.integer(
            "replace_after", 0...day, "after so many seconds without its standby one in reserve is taken",
            absent: "defaults.replace_after", example: "60")
        static let protect = Setting<Desire>.choice(
            "protect", Desire.allCases.map { ($0.rawValue, $0) },
            "whenever its QEMU is there; see docs/DESIRED-STATE.md",
            absent: "as “defaults.reprotect” and the operator's word say", example: "always")
        static let level = Setting.value(
            "level", levelForm, Settings.level, "what it survives; see docs/DIAL.md", absent: "defaults.level",
            example: "system")
        static let degrade = Setting.value(
            "degrade", degradeForm, Settings.degrade, "how far it may fall by itself; see docs/DEGRADE.md",
            absent: "defaults.degrade", example: "restart")
        static let startOrder = Setting.integer(
            "start_order", 0...1000, "guests of a lost host are started here in this order; see docs/RESTART.md",
            absent: "100", example: "10")
        static let startDelay = Setting.integer(
            "start_delay_seconds", 0...3600, "so long after it was started, those with a higher start_order wait",
            absent: "0", example: "30")
        static let agentSilence = Setting.value(
            "guest_agent_silence_seconds", silenceForm, Settings.silence,
            "it is reset when its guest agent, which answered, does not for so long; see docs/RESTART.md",
            absent: "defaults.guest_agent_silence_seconds", example: "60")
        static let epoch = Setting.integer(
            "epoch_ms", TuningRange.epochMilliseconds, "its longest epoch while it works", absent: "defaults.epoch_ms",
            example: "20")
        static let linkCap = Setting.integer(
            "link_cap_mbit", TuningRange.linkCapMegabits, "the most that its replication may send; see docs/LINK.md",
            absent: "defaults.link_cap_mbit", example: "200")
        static let targetLatency = Setting.number(
            "target_latency_ms", TuningRange.targetLatency,
            "its epochs are fitted to this, or to target_overhead_percent; see docs/EPOCHS.md", absent: "none",
            example: "5")
        static let targetOverhead = Setting.number(
            "target_overhead_percent", TuningRange.targetOverhead, "what protection may cost it; see docs/EPOCHS.md",
            absent: "none", example: "5", place: .told)
        static let entry = SettingEntry.section(
            "vms",
            "VMs by name. A VM need not be listed. What is missing is given with “romulus protect”, and a standby without"
                + " overrides takes images, taps and files by the same names as the primary",
            place: .set, name: "web",
            [
                qmp.entry, standby.entry, replaceAfter.entry, protect.entry, level.entry, degrade.entry,
                startOrder.entry,
                startDelay.entry, agentSilence.entry, epoch.entry, linkCap.entry, targetLatency.entry,
                targetOverhead.entry,
            ] + Standby.entries)
    }

    /// What is different when this host is the standby.
    enum Standby {
        private static let imageForm = "the absolute path of an image"
        static let image = Setting.path("disks", as: imageForm, "", absent: "none")
        static let diskPath = Setting.path("path", as: imageForm, "where the image is")
        static let diskFormat = Setting<Configuration.Disk.Format>.choice(
            "format", Configuration.Disk.Format.allCases.map { ($0.rawValue, $0) }, "", absent: "the primary's")
        static let tap = Setting.value(
            "taps", "the name of a network interface (1-15 characters)", interfaceName, "", absent: "none")
        static let file = Setting.path("files", as: "the absolute path of the file here", "", absent: "none")
        static let replacement = Setting.value(
            "replace", "an option line, such as -device virtio-rng-pci", optionLine, "", absent: "none")
        static let display = list("display", "its display", example: "[\"-vnc :1\"]")
        static let accelerator = Setting.text(
            "accelerator", "the name of an accelerator, such as kvm or tcg", "what runs it", absent: "the primary's",
            example: "kvm")
        static let add = list(
            "add", "option lines, as “romulus standby-command” prints them, that come to its command line",
            example: "[\"-device virtio-rng-pci\"]")
        static let remove = list(
            "remove", "option lines, or their beginnings, that go", example: "[\"-device usb-tablet\"]")

        static let entries: [SettingEntry] = [
            .names(
                "disks",
                "\(imageForm), or its “path” and “format” (raw or qcow2, as the primary's where it is not said)",
                "images at this host when it is the standby: by drive id, node name or device id", place: .set,
                ["drive0: /srv/vm/web.img", "drive1: {path: /dev/vg0/web-data, format: raw}"]),
            .names("taps", tap.expected, "taps here, by netdev id", place: .set, ["net0: tap-web"]),
            .names(
                "files", file.expected, "other files here, by the primary's path",
                ["/boot/web-kernel: /srv/boot/web-kernel"]),
            display.entry, accelerator.entry, add.entry, remove.entry,
            .names(
                "replace", replacement.expected, "option lines, or their beginnings, that others take the place of",
                ["\"-cpu host\": \"-cpu Skylake-Server\""]),
        ]

        private static func list(_ key: String, _ sentence: String, example: String) -> Setting<String> {
            .value(
                key, "a list of option lines, such as -device virtio-rng-pci", optionLine, sentence, absent: "none",
                example: example)
        }

        private static func optionLine(_ text: String) -> String? {
            text.hasPrefix("-") && text.count > 1 ? text : nil
        }

        private static func interfaceName(_ text: String) -> String? {
            (1...15).contains(text.utf8.count) && !text.contains(where: { $0.isWhitespace || $0 == "/" || $0 == ":" })
                ? text : nil
        }
    }
}
