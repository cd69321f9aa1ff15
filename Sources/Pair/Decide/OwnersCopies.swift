import Model

/// What a host has written down of the copies of a guest's disks at the host that owns the guest (I40): as long as one of those is
/// not whole, this host's is the only whole one.
package struct OwnersCopies: Sendable, Hashable {
    /// The disks of which the owner has no whole copy; nil where there are none, as it is kept.
    package private(set) var lacking: [UInt16]?
    /// In which history of the guest that is so; nil as well in what older agents wrote.
    package private(set) var lineage: Lineage?

    package init(lacking: [UInt16]? = nil, in lineage: Lineage? = nil) {
        self.lacking = lacking
        self.lineage = lacking == nil ? nil : lineage
    }

    /// What the owner said of its copy of that disk.
    package mutating func note(_ disk: UInt16, isLost: Bool, in lineage: Lineage) {
        var disks = self.lineage == nil || self.lineage == lineage ? Set(lacking ?? []) : []
        if isLost { disks.insert(disk) } else { disks.remove(disk) }
        self = OwnersCopies(lacking: disks.isEmpty ? nil : disks.sorted(), in: lineage)
    }

    /// Another host offers the VM, and would overwrite the disks here. An owner that lacks something does not go on alone, so one
    /// that won the register in the same history is whole again, and only its word of that did not come here any more.
    package func forbids(offerIn lineage: Lineage) -> Bool { lacking != nil && self.lineage != lineage }

    /// This host owns the VM: of another history of the guest nothing is left to be kept.
    package mutating func own(_ lineage: Lineage) {
        if self.lineage != lineage { self = OwnersCopies() }
    }
}
