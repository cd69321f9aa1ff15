import Hypervisor

/// How QEMU's command line is read: which words are options, and which of them take a value.
extension CommandOption {
    /// From a line as `description` prints it: the option, one space, the value as it is (no quotes).
    public init(line: String) {
        let trimmed = line.drop { $0 == " " }
        guard trimmed.hasPrefix("-") else {
            self.init("", String(trimmed))
            return
        }
        let name = trimmed.prefix { $0 != " " }
        let value = trimmed.dropFirst(name.count).drop { $0 == " " }
        self.init(Self.normal(String(name)), value.isEmpty ? nil : String(value))
    }

    static func normal(_ name: String) -> String { name.hasPrefix("--") ? String(name.dropFirst()) : name }

    /// Options of QEMU for x86 that take no value, from qemu-options.hx of 6.0 to 10.0.
    private static let flags: Set<String> = [
        "-h", "-help", "-version", "-nodefaults", "-nographic", "-S", "-s", "-daemonize", "-snapshot", "-no-reboot",
        "-no-shutdown", "-no-acpi", "-no-hpet", "-no-fd-bootchk", "-enable-kvm", "-usb", "-full-screen", "-portrait",
        "-no-user-config", "-nouserconfig", "-win2k-hack", "-mem-prealloc", "-singlestep", "-one-insn-per-tb",
        "-enable-fips", "-only-migratable", "-preconfig", "-sdl", "-curses", "-alt-grab", "-ctrl-grab", "-no-quit",
        "-no-frame", "-rtc-td-hack", "-semihosting", "-old-param", "-xen-attach", "-xen-domid-restrict",
        "-async-teardown", "-audio-help", "-no-kvm", "-no-kvm-irqchip", "-no-kvm-pit", "-balloon-help",
        "-run-with-help",
    ]

    /// Splits a command line (without the program) into options.
    public static func parse(_ arguments: some Sequence<String>) -> [CommandOption] {
        var options: [CommandOption] = []
        var open: String?
        for word in arguments {
            if let name = open {
                options.append(CommandOption(name, word))
                open = nil
            } else if word.hasPrefix("-"), word.count > 1 {
                let name = normal(word)
                if flags.contains(name) { options.append(CommandOption(name)) } else { open = name }
            } else {
                options.append(CommandOption("", word))
            }
        }
        if let open { options.append(CommandOption(open)) }
        return options
    }
}
