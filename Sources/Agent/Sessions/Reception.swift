import LinuxSystem
import Logging
import Memory
import Messages
import Model
import Pair
import Protocol
import Standby
import Transport

/// Takes what other hosts bring: offers, of which it makes replicas, and questions.
final class Reception: Sendable {
    /// A replica that gives way is gone within this time.
    private static let givingWayMax = Duration.seconds(10)

    private let node: NodeName
    private let hosts: Hosts
    private let roster: Roster
    private let words: Words
    private let sessions: Sessions
    private let testimony: Testimony
    private let identities: Identities
    private let maintenance: MaintenanceMemory
    let drivers: Drivers
    private let log: Logger

    init(
        hosts: Hosts, roster: Roster, words: Words, sessions: Sessions, testimony: Testimony,
        maintenance: MaintenanceMemory, drivers: Drivers, chronicle: Chronicle
    ) {
        node = hosts.node
        self.hosts = hosts
        self.roster = roster
        self.words = words
        self.sessions = sessions
        self.testimony = testimony
        self.maintenance = maintenance
        self.drivers = drivers
        identities = Identities(node: hosts.node, store: words.store, chronicle: chronicle)
        log = chronicle.log
    }

    /// Accepts links from the peers at `address` until the process ends.
    func listen(at address: HostPort) async throws(LinkError) -> LinkListener {
        let log = log
        return try await LinkListener.start(
            host: address.host, port: address.port, identity: hosts.identity, allowed: Set(hosts.names),
            group: hosts.group,
            refused: { log.warning("a connection was refused: \($0)") },
            makeHandler: { [self] link in
                hosts.hear(link.peerNode)
                return IncomingLink(
                    node: node, secondPath: hosts[link.peerNode]?.secondPath, log: log,
                    judge: { [testimony] in testimony.reasonNotToYield($0, to: $1) },
                    tell: { [testimony] in $0.compactMap { testimony.knowledge(of: $0) } },
                    check: { [self] in answer($0, from: $1) },
                    prepare: { [self] (offer, link, order) throws(SessionError) in
                        try accept(offer, from: link, order)
                    })
            })
    }

    /// The answer to a host that asks about this one. Called on a thread that may block.
    private func answer(_ message: CheckMessage, from peer: NodeName) -> CheckedMessage {
        let admission = Admission(
            message.vm, message.guest, of: peer, at: message.level ?? .system, createsImages: message.createsImages,
            places: drivers.places(message.vm, message.guest))
        let inMaintenance = maintenance.isOn ? ["\(node) is in maintenance"] : []
        return CheckedMessage(problems: inMaintenance + admission.problems, notes: admission.notes)
    }

    /// Makes the replica of a VM that a peer offers. Called on a thread that may block.
    private func accept(
        _ offer: OfferMessage, from link: Link, _ order: UInt64
    ) throws(SessionError) -> StandbyShell {
        guard !maintenance.isOn else { throw SessionError(.refused, "\(node) is in maintenance") }
        guard roster.beginPreparing(offer.vm) else {
            throw SessionError(.refused, "\(node) is already preparing a replica of \(offer.vm)")
        }
        defer { roster.endPreparing(offer.vm) }
        // The order of links is the order of offers: what a slow thread still has of an older one is not taken up.
        guard roster.isNewest(order, of: offer.vm) else {
            throw SessionError(.refused, "a newer offer of \(offer.vm) came already")
        }

        let custody = sessions.custody(of: offer.vm)
        if let reason = custody.reasonToRefuse(offer.session.level) { throw SessionError(.refused, reason) }
        try identities.check(offer)
        let owners = words.store[offer.vm].owners
        if let lacks = owners.lacking, owners.forbids(offerIn: offer.session.lineage) {
            throw SessionError(
                .refused,
                "\(node) has the only whole copy of \(lacks.count) disk\(lacks.count == 1 ? "" : "s") of \(offer.vm): \(link.peerNode)"
                    + " had lost its own, and would overwrite it now. Start the guest from the images at \(node), or give them up with"
                    + " “romulus unprotect \(offer.vm)” at \(node)")
        }
        var machine = try machine(for: offer, custody)
        guard let identity = machine.image?.identity else {
            throw SessionError(.refused, "\(node) cannot be the standby of \(offer.vm)")
        }
        do {
            try custody.persist(machine.record)
        } catch {
            throw SessionError(.system, "\(node) cannot remember what it promises: \(error)")
        }
        _ = machine.handle(.persisted(machine.record.seen))
        words.takeBack(about: offer.vm)
        do throws(SystemError) {
            try words.store.forgetOwners(of: offer.vm)
        } catch {
            throw SessionError(.system, "the only whole copy of \(offer.vm) cannot be given up: \(error)")
        }
        let replica = try Replica(
            offer: offer, identity: identity, peer: link.peerNode, places: drivers.places(offer.vm, offer.guest),
            log: log)
        _ = machine.handle(.prepared(offer.session.session))
        return try sessions.adopt(replica, machine, link: link)
    }

    /// The machine that takes the offer, or why it is not taken. An older replica of the VM that must give way is gone
    /// afterwards.
    private func machine(for offer: OfferMessage, _ custody: Custody) throws(SessionError) -> StandbyMachine {
        switch roster[offer.vm]?.part {
        case .standby(let session):
            let machine = try session.consider(offer.session).get()
            guard roster.changes.block(until: .now + Self.givingWayMax, for: { roster[offer.vm] == nil }) else {
                throw SessionError(.refused, "\(node) still has to give up an older replica of \(offer.vm)")
            }
            return machine
        case .primary(let session):
            session.hear(of: offer.session)
            throw SessionError(.refused, "\(offer.vm) is already primary at \(node)", knows: session.register)
        case .some(.none), nil:
            var machine = StandbyMachine(
                node: custody.node, rule: custody.rule, record: custody.record,
                fences: Set(custody.fences.keys), bootsFromDisk: custody.bootsFromDisk, seed: .random(in: 1 ... .max))
            for case .refuse(_, let reason, let known) in machine.handle(.offered(offer.session)) {
                throw SessionError(.refused, reason, knows: known)
            }
            return machine
        }
    }
}
