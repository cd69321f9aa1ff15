import Model

/// Who decides, and what a machine that does is told.
extension ConfigurationFile {
    mutating func readArbiter(node: NodeName?, peers: [NodeName]) -> Configuration.ArbiterKind? {
        let isPresent = top.isPresent("arbiter")
        var section = top.section("arbiter")
        let given = ["witness", "etcd"].filter { section.isPresent($0) }
        var witness = section.section("witness")
        var etcd = section.section("etcd")
        section.finish()
        guard isPresent else { return nil }
        guard given.count == 1 else {
            problems.add(
                section.line, "“arbiter” must hold either “witness” or “etcd”; without an arbiter leave “arbiter” out")
            return nil
        }
        return given == ["witness"] ? readWitnessPlace(&witness, node: node, peers: peers) : readEtcd(&etcd)
    }

    private func readWitnessPlace(
        _ section: inout ConfigurationReader, node: NodeName?, peers: [NodeName]
    ) -> Configuration.ArbiterKind? {
        defer { section.finish() }
        let address = section.required(Settings.Arbiter.address)
        let name = section.required(Settings.Arbiter.node)
        guard let address, let name else { return nil }
        if name == node || peers.contains(name) {
            problems.add(
                section.line,
                "“arbiter.witness.node” must be a machine of its own, not “\(name)”: a witness that dies with a host cannot "
                    + "say who goes on")
        }
        return .witness(address: address, node: name)
    }

    private func readEtcd(_ section: inout ConfigurationReader) -> Configuration.ArbiterKind? {
        defer { section.finish() }
        let list = Settings.Arbiter.endpoints
        let place = section.path(list.key)
        if !section.isPresent(list.key) {
            problems.add(section.line, "“\(place)” is missing: it must be \(list.expected)")
        }
        let endpoints = section.list(list)
        let cluster = section.required(Settings.Arbiter.cluster)
        let files = [Settings.Arbiter.ca, Settings.Arbiter.certificate, Settings.Arbiter.key]
        let paths = files.map { section.value($0) }
        let secure = endpoints.filter { $0.hasPrefix("https:") }.count
        if secure > 0 && secure < endpoints.count {
            problems.add(section.line, "“\(place)” must be all https or all http")
        }
        for (file, path) in zip(files, paths)
        where (path == nil) == (secure > 0) && section.isPresent(file.key) != (secure > 0) {
            problems.add(
                section.line,
                secure > 0
                    ? "“\(section.path(file.key))” is missing: it must be \(file.expected)"
                    : "“\(section.path(file.key))” is of no use with http: give https URLs")
        }
        guard !endpoints.isEmpty, let cluster else { return nil }
        guard let ca = paths[0], let certificate = paths[1], let key = paths[2] else {
            return .etcd(Configuration.Etcd(endpoints: endpoints, cluster: cluster))
        }
        return .etcd(
            Configuration.Etcd(
                endpoints: endpoints, cluster: cluster,
                tls: Configuration.TLS(ca: ca, certificate: certificate, key: key)))
    }

    mutating func readWitness(peers: [NodeName]) -> Configuration.Witness? {
        let isPresent = top.isPresent("witness")
        var section = top.section("witness")
        let listen = section.read(Settings.Witness.listen)
        let rights = readRights(&section, peers: peers)
        section.finish()
        guard isPresent else { return nil }
        for key in ["vms", "arbiter"] where top.isPresent(key) {
            problems.add(
                section.line, "“witness” makes this machine a witness, which runs no VMs: leave “\(key)” out")
        }
        if top.isPresent("watchdog") {
            problems.add(section.line, "“watchdog” is for hosts that run VMs: leave it out at a witness")
        }
        if peers.isEmpty {
            problems.add(section.line, "“peers” must name the hosts that may use this witness")
        }
        return Configuration.Witness(listen: listen, rights: rights)
    }

    private func readRights(
        _ witness: inout ConfigurationReader, peers: [NodeName]
    ) -> [VMName: Set<NodeName>] {
        var section = witness.section("vms")
        var rights: [VMName: Set<NodeName>] = [:]
        for (name, line) in section.names {
            let hosts = section.list(name, Settings.Witness.rightsForm) { text in peers.first { $0.description == text }
            }
            if let vm = VMName(name) {
                rights[vm] = Set(hosts)
            } else {
                problems.add(line, "“\(name)” in “witness.vms” is not a VM name")
            }
        }
        section.finish()
        return rights
    }
}
