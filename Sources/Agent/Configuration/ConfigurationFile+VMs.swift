import Model
import Protocol

/// What the file says of VMs.
extension ConfigurationFile {
    mutating func readDefaults(hasArbiter: Bool) -> Configuration.Defaults {
        var section = top.section(Settings.Defaults.entry.key)
        defer { section.finish() }
        let degrade = readDegrade(&section, Settings.Defaults.degrade, hasArbiter)
        return Configuration.Defaults(
            epochMilliseconds: section.read(Settings.Defaults.epoch), level: section.read(Settings.Defaults.level),
            degrade: Configuration.Degrade(
                policy: degrade ?? .never,
                afterMilliseconds: section.read(Settings.Defaults.degradeAfter),
                targetSeconds: section.read(Settings.Defaults.degradeTarget),
                retrySeconds: section.read(Settings.Defaults.degradeRetry)),
            reprotection: section.read(Settings.Defaults.reprotect),
            standbyLost: section.read(Settings.Defaults.standbyLost),
            coldBoot: section.read(Settings.Defaults.coldBoot),
            idleEpochMilliseconds: section.read(Settings.Defaults.idleEpoch),
            checkpointsOnOutput: section.read(Settings.Defaults.checkpointOnOutput),
            pauseBudget: section.read(Settings.Defaults.pauseBudget),
            isRealTime: section.read(Settings.Defaults.realTime), isAwake: section.read(Settings.Defaults.awake),
            keepMemoryMinutes: section.read(Settings.Defaults.keepMemory),
            linkCapMegabits: Self.unlessZero(section.read(Settings.Defaults.linkCap)),
            referenceMebibytes: Self.unlessZero(section.read(Settings.Defaults.referenceCache)),
            replaceAfter: section.read(Settings.Defaults.replaceAfter),
            restarts: RestartBudget(
                limit: section.read(Settings.Defaults.restarts),
                minutes: section.read(Settings.Defaults.restartWindow)),
            agentSilenceSeconds: section.read(Settings.Defaults.agentSilence),
            diskFaults: section.read(Settings.Defaults.diskFault),
            diskTimeoutMilliseconds: section.read(Settings.Defaults.diskTimeout),
            diskBoundMilliseconds: section.read(Settings.Defaults.diskBound),
            diskRejoinSeconds: section.read(Settings.Defaults.diskRejoin))
    }

    /// Without an arbiter nothing confirms the lease under which the output of a VM flows that fell.
    private func readDegrade(
        _ section: inout ConfigurationReader, _ setting: Setting<DegradePolicy>, _ hasArbiter: Bool
    ) -> DegradePolicy? {
        let policy = section.value(setting)
        if let policy, policy != .never, !hasArbiter {
            problems.add(
                section.line(of: setting.key),
                "“\(section.path(setting.key))” is \(policy.rawValue), which needs an “arbiter”: a VM that fell has its output"
                    + " flow under a lease that somebody has to confirm; configure one, or say never")
        }
        return policy
    }

    /// In the file 0 says that there is no bound.
    private static func unlessZero(_ bound: Int) -> Int? { bound == 0 ? nil : bound }

    mutating func readVMs(
        peers: [String], defaults: Configuration.Defaults, hasArbiter: Bool
    ) -> [VMName: Configuration.VM] {
        var section = top.section(Settings.VM.entry.key)
        var vms: [VMName: Configuration.VM] = [:]
        for (name, line) in section.names {
            var reader = section.section(name)
            let found = readVM(&reader, peers: peers, defaults, hasArbiter)
            reader.finish()
            guard let vm = VMName(name) else {
                problems.add(
                    line,
                    "“\(name)” in “vms” must be the name of a VM: 1-64 letters, digits, dots, dashes or underscores")
                continue
            }
            vms[vm] = found
        }
        return vms
    }

    private func readVM(
        _ reader: inout ConfigurationReader, peers: [String], _ defaults: Configuration.Defaults, _ hasArbiter: Bool
    ) -> Configuration.VM {
        let qmp = reader.value(Settings.VM.qmp)
        let standbys = readStandbys(&reader, peers: peers)
        let replaceAfter = reader.value(Settings.VM.replaceAfter) ?? defaults.replaceAfter
        let protect = readProtect(&reader, isComplete: qmp != nil && !standbys.isEmpty)
        let level = reader.value(Settings.VM.level) ?? defaults.level
        let degrade = readDegrade(&reader, Settings.VM.degrade, hasArbiter)
        let epoch = reader.value(Settings.VM.epoch) ?? defaults.epochMilliseconds
        let goal = readGoal(&reader)
        let linkCap = reader.value(Settings.VM.linkCap) ?? defaults.linkCapMegabits ?? 0
        return Configuration.VM(
            qmp: qmp, standbys: standbys, replaceAfter: replaceAfter, protect: protect, level: level,
            degrade: degrade, epochMilliseconds: epoch, goal: goal, linkCapMegabits: Self.unlessZero(linkCap),
            startPlace: reader.value(Settings.VM.startOrder),
            startDelaySeconds: reader.value(Settings.VM.startDelay) ?? 0,
            agentSilenceSeconds: reader.value(Settings.VM.agentSilence), whenStandby: readStandby(&reader))
    }

    private func readStandbys(_ reader: inout ConfigurationReader, peers: [String]) -> [NodeName] {
        let setting = Settings.VM.standby
        let line = reader.line(of: setting.key)
        let place = reader.path(setting.key)
        let standbys = reader.list(setting)
        for standby in standbys where !peers.contains(standby) {
            let hint = Suggestion.nearest(to: standby, among: peers).map { "; did you mean “\($0)”?" } ?? ""
            problems.add(line, "“\(place)” must be one of the “peers”, and “\(standby)” is not there\(hint)")
        }
        if Set(standbys).count < standbys.count { problems.add(line, "“\(place)” must name each host once") }
        return standbys.compactMap { NodeName($0) }
    }

    private func readProtect(_ reader: inout ConfigurationReader, isComplete: Bool) -> Desire? {
        let setting = Settings.VM.protect
        let protect = reader.value(setting)
        if protect == .always, !isComplete {
            problems.add(
                reader.line(of: setting.key),
                "“\(reader.path(setting.key))” is always, which needs “qmp” and “standby” of the VM too")
        }
        return protect
    }

    private func readGoal(_ reader: inout ConfigurationReader) -> EpochGoal? {
        let latency = reader.value(Settings.VM.targetLatency)
        let overhead = reader.value(Settings.VM.targetOverhead)
        if latency != nil, overhead != nil {
            problems.add(
                nil,
                "“\(reader.path("target_latency_ms"))” and “\(reader.path("target_overhead_percent"))” exclude each other"
            )
        }
        return latency.map { .latency(milliseconds: $0) } ?? overhead.map { .overhead(percent: $0) }
    }

    private func readStandby(_ reader: inout ConfigurationReader) -> Configuration.Standby {
        var standby = Configuration.Standby()
        standby.disks = readDisks(&reader)
        standby.taps = Dictionary(reader.texts(Settings.Standby.tap)) { $1 }
        let setting = Settings.Standby.file
        var files = reader.section(setting.key)
        for (name, line) in files.names {
            if ConfigurationReader.absolutePath(name) == nil {
                problems.add(line, "“\(name)” in “\(files.place)” must be an absolute path at the primary")
            }
            standby.files[name] = files.value(name, setting)
        }
        if reader.isPresent(Settings.Standby.display.key) { standby.display = reader.list(Settings.Standby.display) }
        standby.accelerator = reader.value(Settings.Standby.accelerator)
        standby.add = reader.list(Settings.Standby.add)
        standby.remove = reader.list(Settings.Standby.remove)
        standby.replace = reader.texts(Settings.Standby.replacement).map {
            Configuration.Replacement(match: $0.0, with: $0.1)
        }
        return standby
    }

    private func readDisks(_ reader: inout ConfigurationReader) -> [String: Configuration.Disk] {
        var found: [String: Configuration.Disk] = [:]
        var disks = reader.section(Settings.Standby.image.key)
        for (name, _) in disks.names {
            if disks.isMapping(name) {
                var disk = disks.section(name)
                let path = disk.required(Settings.Standby.diskPath)
                let format = disk.value(Settings.Standby.diskFormat)
                disk.finish()
                if let path { found[name] = Configuration.Disk(path: path, format: format) }
            } else if let path = disks.value(name, Settings.Standby.image) {
                found[name] = Configuration.Disk(path: path, format: nil)
            }
        }
        return found
    }
}
