import Model

/// The carriers of one session. What each call says to them is in `Carrier`.
package struct CarrierList {
    private var carriers: [any Carrier]

    /// In the order in which they are attached.
    package init(_ carriers: [any Carrier]) { self.carriers = carriers }

    /// Comes behind those that are there.
    package mutating func add(_ carrier: any Carrier) { carriers.append(carrier) }

    /// Does not detach it.
    package mutating func remove(_ kind: CarrierKind) { carriers.removeAll { $0.kind == kind } }

    /// Of the first copy, 0 to 1; 1 where there is no such carrier.
    package func progress(of kind: CarrierKind) -> Double { carriers.first { $0.kind == kind }?.progress ?? 1 }

    package func prepare(_ look: Look) throws(SessionError) -> String? {
        for carrier in carriers {
            if let ended = try carrier.prepare(look) { return ended }
        }
        return nil
    }

    /// Where one cannot be attached, none is when this throws.
    package func attach() throws(SessionError) {
        do throws(SessionError) {
            for carrier in carriers { try carrier.attach() }
        } catch {
            detach()
            throw error
        }
    }

    package func copy(_ look: Look) throws(SessionError) -> String? {
        for carrier in carriers {
            if let ended = try carrier.copy(look) { return ended }
        }
        return nil
    }

    /// One round of each; the most that is left of any.
    package func catchUp() throws(SessionError) -> Rest {
        var rest = Rest.little
        for carrier in carriers { rest = max(rest, try carrier.catchUp()) }
        return rest
    }

    package func cut(_ epoch: Epoch, isFirst: Bool) throws(SessionError) {
        for carrier in carriers { try carrier.cut(epoch, isFirst: isFirst) }
    }

    package func ship(_ epoch: Epoch) { for carrier in carriers { carrier.ship(epoch) } }

    package func endFirstCopy() { for carrier in carriers { carrier.endFirstCopy() } }

    package func complete(_ epoch: Epoch, _ timings: inout EpochTimings) throws(SessionError) {
        for carrier in carriers { try carrier.complete(epoch, &timings) }
    }

    package func detach() { for carrier in carriers.reversed() { carrier.detach() } }

    package func close() { for carrier in carriers.reversed() { carrier.close() } }
}
