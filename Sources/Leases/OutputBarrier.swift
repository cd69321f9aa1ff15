import Glibc
import KernelGate
import Model
import Synchronization

/// What stands before guests' devices and shuts by itself. `KernelGate` has the words for each of these.
package protocol OutputBarrier: Sendable {
    var guests: [VMName: [GatedLink]] { get }
    /// Throws what is known to stand in the way of `install`; changes nothing.
    func check(_ links: [GatedLink]) throws(KernelGateError)
    func install(_ vm: VMName, before links: [GatedLink]) throws(KernelGateError)
    func open(_ vm: VMName, until deadline: UInt64) throws(KernelGateError) -> Bool
    func renew(_ deadlines: [VMName: UInt64]) throws(KernelGateError) -> [VMName: KernelGate.Renewal]
    func close(_ vm: VMName) throws(KernelGateError)
    func remove(_ vm: VMName) throws(KernelGateError)
}

extension KernelGate: OutputBarrier {
    package func check(_ links: [GatedLink]) throws(KernelGateError) {
        for link in links where if_nametoindex(link.name) == 0 { throw .noDevice(link.name) }
    }
}

/// The gate, made when somebody needs it: where all guests' output is held by epochs, an agent need not have the right
/// to it.
final class LazyGate: Sendable {
    private let make: @Sendable () throws(KernelGateError) -> any OutputBarrier
    private let gate = Mutex<(any OutputBarrier)?>(nil)

    init(_ make: @escaping @Sendable () throws(KernelGateError) -> any OutputBarrier) { self.make = make }

    /// Nil while there is none.
    var made: (any OutputBarrier)? { gate.withLock { $0 } }

    /// Makes it if there is none; where that fails the next one who needs it tries again.
    func get() throws(KernelGateError) -> any OutputBarrier {
        try gate.withLock { (gate) throws(KernelGateError) in
            if let gate { return gate }
            let new = try make()
            gate = new
            return new
        }
    }

    /// Its table is gone: another gate has to be made.
    func forget() { gate.withLock { $0 = nil } }
}
