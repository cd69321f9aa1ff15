/// Domains of libvirt as people read of them.
public enum LibvirtText {
    public static func list(_ domains: [LibvirtDomain], colour: Bool) -> String {
        guard !domains.isEmpty else { return "no domains\n" }
        var table = Table([("DOMAIN", .left), ("RUNS", .left), ("SECOND MONITOR", .left), ("ROMULUS", .left)])
        for domain in domains {
            table.add([
                (domain.name, .bold), (domain.isRunning ? "yes" : "no", .plain), (monitor(domain), .plain),
                (domain.state?.rawValue ?? "-", .plain),
            ])
        }
        return table.text(colour: colour)
    }

    private static func monitor(_ domain: LibvirtDomain) -> String {
        switch (domain.monitor, domain.monitorOfNextStart) {
        case (let now?, let next?) where now == next: now
        case (let now?, nil): domain.isPersistent ? "\(now), not from its next start on" : now
        case (let now?, let next?): "\(now), from its next start on \(next)"
        case (nil, let next?): domain.isRunning ? "from its next start on" : next
        case (nil, nil): "none"
        }
    }

    /// What `prepare` did, and what is left to do.
    public static func prepared(_ domain: LibvirtDomain) -> String {
        switch (domain.monitor, domain.monitorOfNextStart) {
        case (let now?, let next?) where now == next:
            "\(domain.name) has its second monitor: protect it with “romulus protect \(domain.name)”"
        case (_, _?) where domain.isRunning:
            "\(domain.name) has a second monitor from its next start on: shut it down and start it once (a reboot is no start)"
        case (_, _?): "\(domain.name) has a second monitor when it is started"
        case (_?, nil): "\(domain.name) has no second monitor from its next start on"
        case (nil, nil): "\(domain.name) has no second monitor"
        }
    }
}
