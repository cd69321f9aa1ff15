import Model
import Pair
import Protocol

/// Level `component`: a NIC whose host has no network is led through the other host (I39). `CarryMachine` decides, as it is shipped;
/// taps, ports and uplinks are fakes.
struct SimCarry {
    var machine = CarryMachine()
    /// The last order to the standby, and whether its port was to be inside.
    var order = 0
    var wantsInside = false
    /// What it said last.
    var news: News?

    struct News {
        var hasUplink: Bool
        var isInside: Bool
        var order: Int
    }
}

/// The port of the standby's agent.
struct SimPort {
    var isInside = false
    var done = 0
}

extension World {
    private static let lookPeriod = 20
    private static let newsPeriod = 50
    /// A run is short: the machine's clock goes so much faster.
    private static let hurry: UInt64 = 5

    // MARK: - The guest's host

    func attachDetour(_ session: SessionID, _ host: Host) {
        guard isServing(session, host), host.guest?.isAlive == true, host.primary?.dial?.step == .attaching(.detour)
        else {
            return
        }
        host.carry = SimCarry()
        send(.lendPort(session), on: host.link, from: host)
        tellPart(session, host) { $0.hear(.attached(.detour)) }
        later(host, Self.lookPeriod, .carryLook(session))
    }

    func detachDetour(_ session: SessionID, _ host: Host) {
        stopCarrying(host)
        send(.returnPort(session), on: host.link, from: host)
        tellPart(session, host) { $0.hear(.detached(.detour)) }
    }

    /// The guest is at its own bridge when this returns.
    func stopCarrying(_ host: Host) {
        guard host.carry != nil else { return }
        host.carry = nil
        host.guest?.tapIsCarried = false
    }

    func lookAtUplinks(_ session: SessionID, _ host: Host) {
        guard var carry = host.carry, host.session == session else { return }
        guard isServing(session, host), let duty = host.primary, duty.connection.linkDown == nil else {
            return stopCarrying(host)
        }
        later(host, Self.lookPeriod, .carryLook(session))
        let time = nanoseconds * Self.hurry
        var actions: [CarryMachine.Action] = []
        if let news = carry.news, carry.order > 0, news.order == carry.order {
            actions += carry.machine.handle(news.isInside == carry.wantsInside ? .done : .failed, at: time)
        }
        let own = sight(host.hasUplink)
        actions += carry.machine.handle(
            .looked(own: own, other: carry.news.map { sight($0.hasUplink) }, mayLeave: duty.mayCarry), at: time)
        host.carry = carry
        for action in actions where host.carry != nil { carryOut(action, host) }
    }

    private func sight(_ hasUplink: Bool) -> UplinkSight {
        UplinkSight(isThere: true, isConnected: hasUplink, missed: nil, sources: 0)
    }

    private func carryOut(_ action: CarryMachine.Action, _ host: Host) {
        trace("\(host.name) carry \(action)")
        switch action {
        case .lead:
            tellPrimary(host) { $0.hear(.livesBy(.detour, "a NIC is carried")) }
            if mutant != .entersBeforeLeading { host.guest?.tapIsCarried = true }
            order(host, isInside: true)
        case .arrived: host.guest?.tapIsCarried = true
        case .callBack:
            order(host, isInside: false)
            if mutant == .releasesBeforeCallBack { host.guest?.tapIsCarried = false }
        case .release:
            host.guest?.tapIsCarried = false
            tellPrimary(host) { $0.hear(.livesBy(.detour, nil)) }
        }
        judgeAttachment(host)
    }

    private func order(_ host: Host, isInside: Bool) {
        host.carry?.order += 1
        host.carry?.wantsInside = isInside
        send(.carryOrder(host.session, host.carry?.order ?? 0, isInside: isInside), on: host.link, from: host)
    }

    /// A frame of the guest's goes to the agent, past the gate. False where it takes the way through the own bridge.
    func leads(_ packet: Int, _ host: Host) -> Bool {
        guard host.guest?.tapIsCarried == true else { return false }
        if host.isUp, host.stalledUntil <= now, host.carry != nil {
            send(.frame(host.session, packet), on: host.link, from: host)
        }
        return true
    }

    // MARK: - The standby

    func takeCarried(_ message: Message, _ host: Host) {
        // Under the lock under which this host asks for the guest.
        let isLending = host.standby?.isLending == true
        switch message {
        case .lendPort(let session) where isLending && host.standby?.session == session:
            host.port = SimPort()
            later(host, 1, .carryNews(session))
        case .returnPort: host.port = nil
        case .carryOrder(let session, let order, let isInside) where isLending && host.standby?.session == session:
            guard host.port != nil else { return }
            host.port?.isInside = isInside
            host.port?.done = order
            judgeAttachment(hosts[host.other])
            tellOfPort(session, host)
        case .frame(let session, let packet) where isLending && host.standby?.session == session:
            if host.port?.isInside == true { letOutCarried(packet, host) }
        default: break
        }
    }

    /// I39: before anybody is asked.
    func closePort(_ host: Host) {
        if host.port != nil, host.standby?.isLending != true { host.port = nil }
    }

    func tellOfPort(_ session: SessionID, again isRegular: Bool = false, _ host: Host) {
        guard let port = host.port, host.standby?.session == session else { return }
        send(
            .carryNews(session, SimCarry.News(hasUplink: host.hasUplink, isInside: port.isInside, order: port.done)),
            on: host.link, from: host)
        if isRegular { later(host, Self.newsPeriod, .carryNews(session)) }
    }

    private func letOutCarried(_ packet: Int, _ host: Host) {
        if host.replica?.hasAsked == true {
            verdict.fail("I39", "step \(packet) left \(host.name), which carries it and asked for the guest")
        }
        reachClients(packet, of: host.replica?.lineage, through: host)
    }

    /// I39: the guest at this host is attached to one network.
    private func judgeAttachment(_ host: Host) {
        guard let guest = host.guest, guest.isAlive, !guest.tapIsCarried, host.link >= 0,
            links[host.link].isOpen == [true, true], hosts[host.other].port?.isInside == true,
            host.primary?.machine.session != nil
        else { return }
        verdict.fail("I39", "the guest at \(host.name) is attached to its own bridge and to the one of the other host")
    }
}
