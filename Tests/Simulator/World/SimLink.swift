import Model
import Protocol

/// One TCP connection: two directions, each in order, each end closed by itself.
struct SimLink {
    var primary: HostIndex
    var standby: HostIndex
    /// By host.
    var isOpen = [true, true]
    var lastArrival = [0, 0]
    var lastHeard = [0, 0]
}

extension World {
    /// Opens a link from the primary's agent and makes the offer on it.
    func connect(_ offer: SessionOffer, _ host: Host) {
        let peer = hosts[host.other]
        host.session = offer.session
        host.sealed = .firstCopy
        guard isReachable(from: host.index), isReachable(from: peer.index), peer.isPowered, peer.isUp else {
            later(host, 200, .offerFails(offer.session))
            return
        }
        links.append(SimLink(primary: host.index, standby: peer.index))
        host.link = links.count - 1
        links[host.link].lastHeard = [now, now]
        send(.offer(offer), on: host.link, from: host)
        later(host, 100, .checkSilence(connection: host.link))
        later(peer, 100, .checkSilence(connection: host.link))
    }

    /// The other host is heard on the second way.
    func hearsPeer(_ host: Host) -> Bool { plan.hasSecondPath && hosts[host.other].isAwake(at: now) }

    func isReachable(from host: HostIndex) -> Bool { cutUntil[host] <= now }

    func send(_ message: Message, on link: Int, from host: Host) {
        guard link >= 0, links[link].isOpen[host.index] else { return }
        transmit(message, on: link, from: host)
    }

    /// What a cut holds up comes when it ends: TCP sends it again, as long as the sender's kernel lives.
    private func transmit(_ message: Message, on link: Int, from host: Host) {
        let to = host.other
        var arrival = max(now, endOfFault(cutUntil[host.index])) + random.within(1...plan.latencyMax)
        arrival = max(arrival, links[link].lastArrival[to])
        links[link].lastArrival[to] = arrival
        let receiver = hosts[to]
        queue.add(.agent(to, life: receiver.life, .arrive(connection: link, message)), at: arrival)
        if plan.lateFrames > 0, random.chance(perMille: plan.lateFrames) {
            let late = arrival + random.within(200...3000)
            queue.add(.agent(to, life: receiver.life, .arrive(connection: -1 - link, message)), at: late)
        }
    }

    func close(_ link: Int, at host: Host) {
        guard link >= 0, links[link].isOpen[host.index] else { return }
        // Something on the way may have forgotten the connection: then only silence tells.
        if isHealing || !random.chance(perMille: plan.lostCloses) { transmit(.closed, on: link, from: host) }
        links[link].isOpen[host.index] = false
    }

    /// A power cut says nothing to the other end.
    func vanish(_ host: Host) {
        for link in links.indices { links[link].isOpen[host.index] = false }
    }

    func arrive(_ message: Message, on number: Int, at host: Host) {
        // Copies of frames that come when their connection is long gone.
        let isLate = number < 0
        let link = isLate ? -1 - number : number
        if isLate {
            switch message {
            case .closed, .memory, .write, .written, .promiseAsked, .promise: return
            case .lendPort, .returnPort, .carryOrder, .carryNews, .frame: return
            default: break
            }
            if links[link].isOpen == [true, true] { return }
        } else {
            guard links[link].isOpen[host.index] else { return }
            links[link].lastHeard[host.index] = now
            hearPeer(host)
        }
        if links[link].primary == host.index {
            arriveAtPrimary(message, link, host)
        } else {
            arriveAtStandby(message, link, host)
        }
    }

    /// Heartbeats, without sending each: the other end is heard when it could have sent one.
    func checkSilence(of link: Int, at host: Host) {
        guard links[link].isOpen[host.index] else { return }
        let peer = hosts[host.other]
        if links[link].isOpen[peer.index], peer.isAwake(at: now), isReachable(from: peer.index) {
            links[link].lastHeard[host.index] = now
        } else if now - links[link].lastHeard[host.index] > Self.silence {
            if !keepsLink || links[link].primary == host.index { close(link, at: host) }
            loseLink(link, host)
            return
        }
        later(host, 100, .checkSilence(connection: link))
    }

    /// A standby listens on while and after it asks.
    var keepsLink: Bool { mutant == .acknowledgesAfterAsking || mutant == .takesWritesAfterAsking }

    func loseLink(_ link: Int, _ host: Host) {
        guard link == host.link else {
            host.offers.removeAll { $0.link == link }
            return
        }
        if !keepsLink || links[link].primary == host.index { host.link = -1 }
        if links[link].primary == host.index {
            tellPrimary(host) { $0.noteClosedLink("lost") }
            takeAnswer(host)
        } else if host.standby?.machine.image != nil {
            if mutant == .dropsImageOnSilence { return tellStandby(host) { $0.loseQEMU("is dropped") } }
            let (time, lives) = (nanoseconds, hearsPeer(host))
            tellStandby(host) { $0.loseLink("lost", at: time, hostLives: lives) }
            if host.standby?.heldBack != nil { later(host, 50, .standbyBeats) }
            if mutant == .standbyActsAlone, plan.rule != .arbiter { goOnHere(host) }
        }
    }
}
