import Foundation
import TestBed
import Testing

/// What should be protected is, without anybody asking for it again.
@Suite(.serialized, .timeLimit(.minutes(3))) struct DesiredStateTests {
    private static let vm = Scene.vm

    private struct Place {
        let pair: Pair
        let image: GuestImage
        let configuration: GuestVM.Configuration

        /// Starts the VM, at host A unless it says otherwise; it need not be ready to be protected.
        func start(at host: BedHost? = nil, arguments: [String] = []) throws -> GuestVM {
            var configuration = configuration
            configuration.moreArguments += arguments
            return try GuestVM.start(on: host ?? pair.bed.a, image: image, configuration)
        }

        /// The VM is shut down by whoever manages it.
        func stop(_ guest: GuestVM) async throws {
            guest.process.kill(SIGTERM)
            try await guest.process.wait()
        }

        /// As `Pair.wait`, where the VM may be `failed` before.
        @discardableResult
        func wait(for state: String, at host: BedHost) async throws -> Pair.Status {
            try await eventually("\(DesiredStateTests.vm) is \(state) at host \(host.name)", within: .seconds(40)) {
                let status = try pair.status(host, DesiredStateTests.vm)
                return status?.state == state ? status : nil
            }
        }

        func check(_ host: BedHost, _ arguments: [String] = []) throws -> Int32 {
            try pair.romulus(host, ["status", "--check"] + arguments).status
        }

        func restartAgent(_ host: BedHost) async throws {
            try await pair.agent(host)?.killAndWait()
            try await pair.start(host)
        }

        /// The events of host A whose text has `words`.
        func events(with words: String) throws -> Int {
            try pair.romulus(pair.bed.a, ["events", DesiredStateTests.vm, "--limit", "1000"]).output
                .split(separator: "\n").filter { $0.contains(words) }.count
        }
    }

    /// The agents, with the VM listed at A, and no QEMU yet.
    private func place(
        on bed: Bed, hasDisk: Bool = false, standby: String = "hostb",
        _ change: (inout Pair.Options) -> Void = { _ in }
    ) async throws -> Place {
        var configuration = GuestVM.Configuration()
        configuration.name = Self.vm
        configuration.memoryMiB = 128
        let primaryDisk = "\(bed.a.stateDirectory)/web.raw"
        if hasDisk {
            configuration.disks = [try GuestDisk.create(primaryDisk, mebibytes: 16, content: .random(seed: 7))]
            _ = try GuestDisk.create("\(bed.b.stateDirectory)/web.raw", mebibytes: 16)
        }
        var options = Pair.Options()
        options.reprotectsByItself = true
        func disk(_ path: String) -> [String] {
            hasDisk ? ["    disks:", "      disk0: {path: \(path), format: raw}"] : []
        }
        options.vms["a"] =
            ["  \(Self.vm):", "    qmp: \(bed.a.runtimeDirectory)/\(Self.vm).qmp", "    standby: \(standby)"]
            + disk(primaryDisk)
        options.vms["b"] = ["  \(Self.vm):"] + disk("\(bed.b.stateDirectory)/web.raw")
        change(&options)
        for host in bed.hosts { try host.addTap("tap0") }
        return Place(
            pair: try await Pair(on: bed, options), image: try GuestImage.build(), configuration: configuration)
    }

    @Test func aListedVMIsProtectedWheneverItsQEMUIsThere() async throws {
        try await Bed.with { bed in
            let place = try await place(on: bed, hasDisk: true)
            let pair = place.pair
            let row = try await pair.wait(bed.a, Self.vm, for: "waiting", within: .seconds(10))
            #expect(row.desired?.protect == "always")
            #expect(row.desired?.reason?.contains("web.qmp") == true, "\(row)")
            #expect(try place.check(bed.a) == 2, "a VM that should be protected counts")
            #expect(try place.check(bed.b) == 0, "it is not for B to protect")

            let first = try place.start()
            try await pair.wait(bed.a, Self.vm, for: "protected", within: .seconds(40))
            #expect(try place.check(bed.a) == 0)
            try await place.stop(first)
            try await pair.wait(bed.a, Self.vm, for: "waiting", within: .seconds(10))
            try await Task.sleep(for: .seconds(2))
            #expect(try place.events(with: "is to be protected and waits") == 2, "a state that lasts is told once")

            let second = try place.start()
            try await pair.wait(bed.a, Self.vm, for: "protected", within: .seconds(40))
            // The guest goes while nobody looks.
            try await pair.agent(bed.a)?.killAndWait()
            try await second.killAndWait()
            try await pair.start(bed.a)
            try await pair.wait(bed.a, Self.vm, for: "waiting", within: .seconds(10))
        }
    }

    @Test func unprotectIsTheLastWord() async throws {
        try await Bed.with { bed in
            let place = try await place(on: bed, hasDisk: true)
            let pair = place.pair
            _ = try place.start()
            try await pair.wait(bed.a, Self.vm, for: "protected", within: .seconds(40))
            try await place.restartAgent(bed.a)
            try await pair.wait(bed.a, Self.vm, for: "protected", within: .seconds(40))

            #expect(try pair.romulus(bed.a, ["unprotect", Self.vm]).status == 0)
            #expect(try place.check(bed.a) == 0, "nobody wants it protected")
            #expect(try place.check(bed.a, [Self.vm]) == 3, "asked by name it is what it is")
            try await place.restartAgent(bed.a)
            try await Task.sleep(for: .seconds(3))
            #expect(try pair.list(bed.a).isEmpty, "the word holds over a restart")

            #expect(try pair.romulus(bed.a, ["protect", Self.vm, "--wait", "--timeout", "40"]).status == 0)
            #expect(try pair.status(bed.a, Self.vm)?.desired?.protect == "always")
        }
    }

    /// Nothing is left of the VM, and each host learns that from the other: it is protected wherever it is started.
    @Test func aVMThatDiedAtBothHostsIsProtectedWhereItIsStartedAgain() async throws {
        try await Bed.with { bed in
            let place = try await place(on: bed) { options in
                options.arbiter = .witness
                options.vms["b"] = [
                    "  \(Self.vm):", "    qmp: \(bed.b.runtimeDirectory)/\(Self.vm).qmp", "    standby: hosta",
                ]
            }
            let pair = place.pair
            let guest = try place.start()
            try await pair.wait(bed.a, Self.vm, for: "protected", within: .seconds(40))
            try await guest.killAndWait()
            try await pair.wait(bed.b, Self.vm, for: "protected", as: "primary", within: .seconds(40))
            // Both at one moment: neither agent can ask the other to go on.
            let pids = try bed.hosts.compactMap { try pair.status($0, Self.vm)?.pid }
            #expect(pids.count == 2)
            for pid in pids { kill(pid, SIGKILL) }
            for host in bed.hosts { try await place.wait(for: "waiting", at: host) }
            #expect(try place.check(bed.a) == 2 && place.check(bed.b) == 2)
            _ = try place.start()
            try await place.wait(for: "protected", at: bed.a)
            #expect(try pair.status(bed.b, Self.vm)?.role == "standby")
        }
    }

    @Test func anotherVMOfThatNameIsNotTakenForIt() async throws {
        try await Bed.with { bed in
            let place = try await place(on: bed)
            let pair = place.pair
            let (one, other) = ("11111111-2222-4333-8444-555555555555", "99999999-2222-4333-8444-555555555555")
            let first = try place.start(arguments: ["-uuid", one])
            let status = try await pair.wait(bed.a, Self.vm, for: "protected", within: .seconds(40))
            #expect(status.identity?.uuid == one && status.identity?.made == false)
            #expect(try pair.status(bed.b, Self.vm)?.identity?.uuid == one)
            try await place.stop(first)

            let second = try place.start(arguments: ["-uuid", other])
            try await pair.wait(bed.a, Self.vm, for: "failed", within: .seconds(40))
            let reason = try await eventually("it is told why", within: .seconds(10)) {
                try pair.status(bed.a, Self.vm)?.desired?.reason
            }
            #expect(reason.contains(one) && reason.contains(other), "\(reason)")
            #expect(try place.check(bed.a) == 3)
            try await place.stop(second)

            // One without a UUID may be any.
            let third = try place.start()
            try await place.wait(for: "protected", at: bed.a)
            try await place.stop(third)
            #expect(try pair.romulus(bed.a, ["unprotect", Self.vm]).status == 0)
            _ = try place.start(arguments: ["-uuid", other])
            // This takes the word back, even where QEMU is not that far yet.
            _ = try pair.romulus(bed.a, ["protect", Self.vm])
            #expect(try await place.wait(for: "protected", at: bed.a).identity?.uuid == other)
        }
    }

    /// The standby's host is lost, the reserve takes its place; then the guest's QEMU, and what is left goes on.
    @Test func aStandbyInReserveTakesThePlaceOfALostOne() async throws {
        try await Bed.with { bed in
            try bed.client.run(["ip", "link", "add", "br0", "type", "bridge"])
            try bed.client.addTap("tap0")
            let place = try await place(on: bed, standby: "[hostb, hostc]") { options in
                options.arbiter = .witness
                options.hasThirdHost = true
                options.defaults = ["replace_after: 3"]
            }
            let pair = place.pair
            let guest = try place.start()
            let first = try await pair.wait(bed.a, Self.vm, for: "protected", within: .seconds(40))
            #expect(first.peer == "hostb")
            try bed.b.cutPower()
            try await eventually("the reserve protects it", within: .seconds(40)) {
                let status = try pair.status(bed.a, Self.vm)
                return status?.state == "protected" && status?.peer == "hostc" ? true : nil
            }
            #expect(try place.events(with: "hostb has not been the standby of web for 3 s") == 1)
            try await guest.killAndWait()
            let left = try await pair.wait(bed.client, Self.vm, for: "protected", within: .seconds(40))
            #expect(left.peer == "hosta", "the old primary is what is left")
        }
    }

    /// The same without an arbiter: the operator's rules for a lost standby hold, and the reserve takes its place.
    @Test func aReserveTakesThePlaceWithoutAnArbiter() async throws {
        try await Bed.with { bed in
            try bed.client.run(["ip", "link", "add", "br0", "type", "bridge"])
            try bed.client.addTap("tap0")
            let place = try await place(on: bed, standby: "[hostb, hostc]") { options in
                options.hasThirdHost = true
                options.defaults = ["replace_after: 3"]
            }
            let pair = place.pair
            let guest = try place.start()
            let first = try await pair.wait(bed.a, Self.vm, for: "protected", within: .seconds(40))
            #expect(first.peer == "hostb")
            try bed.b.cutPower()
            try await eventually("the reserve protects it", within: .seconds(40)) {
                let status = try pair.status(bed.a, Self.vm)
                return status?.state == "protected" && status?.peer == "hostc" ? true : nil
            }
            // The guest's QEMU dies where its agent sees it: the new standby goes on by itself.
            try await guest.killAndWait()
            let left = try await pair.wait(bed.client, Self.vm, for: "protected", within: .seconds(40))
            #expect(left.peer == "hosta" && left.role == "primary", "\(left)")
        }
    }

    /// A host in maintenance neither begins a protection by itself nor is taken as a standby; both come with its end.
    @Test func maintenanceSuspendsWhatIsWanted() async throws {
        try await Bed.with { bed in
            let place = try await place(on: bed)
            let pair = place.pair
            #expect(try pair.romulus(bed.a, ["maintenance", "on"]).status == 0)
            _ = try place.start()
            let waiting = try await eventually("it waits for the end of maintenance", within: .seconds(20)) {
                let status = try pair.status(bed.a, Self.vm)
                return status?.desired?.reason == "hosta is in maintenance" ? status : nil
            }
            #expect(waiting.state == "waiting" && waiting.pid == nil)
            #expect(try place.check(bed.a) == 2)

            #expect(try pair.romulus(bed.b, ["maintenance", "on"]).status == 0)
            #expect(try pair.romulus(bed.a, ["maintenance", "off"]).status == 0)
            try await eventually("the standby's refusal is told", within: .seconds(20)) {
                let status = try pair.status(bed.a, Self.vm)
                let told = status?.desired?.reason ?? status?.lastError ?? ""
                return status?.state != "protected" && told.contains("hostb is in maintenance") ? true : nil
            }
            #expect(try pair.list(bed.b).isEmpty, "nothing is made at a host in maintenance")
            #expect(try pair.romulus(bed.b, ["maintenance", "off"]).status == 0)
            try await place.wait(for: "protected", at: bed.a)
        }
    }

    /// The last word travels to the other host that lists the VM, and so does the word that takes it back.
    @Test func unprotectIsTheLastWordAtTheOtherHostToo() async throws {
        try await Bed.with { bed in
            let place = try await place(on: bed) { options in
                options.vms["b"] = [
                    "  \(Self.vm):", "    qmp: \(bed.b.runtimeDirectory)/\(Self.vm).qmp", "    standby: hosta",
                ]
            }
            let pair = place.pair
            let guest = try place.start()
            try await place.wait(for: "protected", at: bed.a)
            #expect(try pair.romulus(bed.a, ["unprotect", Self.vm]).status == 0)
            try await eventually("host B heard of it", within: .seconds(30)) {
                try pair.romulus(bed.b, ["events", Self.vm, "--limit", "1000"]).output
                    .contains("web is not to be protected: that was said at hosta") ? true : nil
            }
            try await place.stop(guest)
            let other = try place.start(at: bed.b)
            try await place.restartAgent(bed.b)
            try await Task.sleep(for: .seconds(3))
            #expect(try pair.list(bed.b).isEmpty && place.check(bed.b) == 0, "it holds where the VM is started later")
            try await place.stop(other)

            _ = try place.start()
            // This takes the word back, even where QEMU is not that far yet.
            _ = try pair.romulus(bed.a, ["protect", Self.vm])
            try await place.wait(for: "protected", at: bed.a)
            let pid = try #require(try pair.status(bed.a, Self.vm)?.pid)
            kill(pid, SIGKILL)
            // The guest goes on at B, where it is to be protected again.
            let taken = try await pair.wait(bed.b, Self.vm, for: "protected", as: "primary", within: .seconds(40))
            #expect(taken.desired?.protect == "always")
        }
    }

    /// Who waits for a VM's QEMU and learns that another host has the VM does not alarm anybody.
    @Test func aHostThatWaitsKnowsWhoHasTheVM() async throws {
        try await Bed.with { bed in
            let place = try await place(on: bed) { options in
                options.hasThirdHost = true
                options.vms["client"] = [
                    "  \(Self.vm):", "    qmp: \(bed.client.runtimeDirectory)/\(Self.vm).qmp", "    standby: hosta",
                ]
            }
            let pair = place.pair
            try await place.wait(for: "waiting", at: bed.client)
            #expect(try place.check(bed.client) == 2, "nobody has it")
            let guest = try place.start()
            try await place.wait(for: "protected", at: bed.a)
            let row = try await eventually("the third host knows", within: .seconds(30)) {
                let status = try pair.status(bed.client, Self.vm)
                return status?.desired?.reason?.contains("protected, with hostb as its standby") == true ? status : nil
            }
            #expect(row.state == "waiting" && row.desired?.elsewhere == "hosta")
            #expect(try place.check(bed.client) == 0 && place.check(bed.client, [Self.vm]) == 0)
            try await place.stop(guest)
            try await eventually("nobody has it again", within: .seconds(30)) {
                try place.check(bed.client) == 2 ? true : nil
            }
        }
    }
}
