import Memory
import Testing

@Suite struct SpareSlabTests {
    /// A guest that stands still does not wait for the link, up to 1 GiB for all guests; what is given back can be had again.
    @Test func spareSlabsAreBounded() throws {
        #expect(Slab.sparesMax * Slab.bytesMax == 1 << 30)
        var spares: [Slab] = []
        while spares.count <= Slab.sparesMax, let spare = Slab.makeSpare() { spares.append(spare) }
        #expect(spares.count == Slab.sparesMax)
        #expect(Slab.makeSpare() == nil && Slab.makeSpare() == nil, "what was refused does not count")
        spares.removeLast(2)
        let again = [Slab.makeSpare(), Slab.makeSpare(), Slab.makeSpare()]
        #expect(again.count { $0 != nil } == 2)
    }
}
