import Codec
import LinuxSystem
import Memory
import Model
import Testing

@Suite struct PageReferencesTests {
    private static func block(_ name: String, pages: Int, tracked: Bool = true) -> RAMBlock {
        RAMBlock(
            index: 0, name: name, length: UInt64(pages * pageSize), inSharedFile: false, tracked: tracked)
    }

    /// What the encoder does with a page: it becomes known and its copy is made.
    private static func encode(_ pages: some Sequence<Int>, _ references: PageReferences, block: Int = 0) {
        let numbers = pages.map { UInt32($0) }
        for number in numbers {
            references.blocks[block].known.insert(Int(number))
            references.blocks[block].memory.storeBytes(
                of: number, toByteOffset: Int(number) * pageSize, as: UInt32.self)
        }
        references.use(numbers, of: UInt16(block))
        references.trim()
    }

    @Test func withoutABoundNothingIsForgotten() throws {
        let references = try PageReferences([Self.block("ram", pages: 4096)])
        for _ in 0..<3 { Self.encode(0..<4096, references) }
        #expect(references.pages == 4096)
    }

    @Test func theBoundHoldsOverAllBlocks() throws {
        let references = try PageReferences(
            [
                Self.block("one", pages: 2000), Self.block("rom", pages: 64, tracked: false),
                Self.block("two", pages: 1000),
            ],
            pagesMax: 640)
        var random: UInt64 = 3
        for _ in 0..<500 {
            random = random &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            let block = random >> 63 == 0 ? 0 : 2
            let start = Int(random >> 33) % (block == 0 ? 1900 : 900)
            Self.encode(start..<start + 100, references, block: block)
            #expect(references.pages <= 640)
        }
        #expect(references.pages > 300, "what fits is kept")
    }

    /// Pages that are written all the time stay, however many others come once.
    @Test func whatIsUsedAgainStays() throws {
        let references = try PageReferences([Self.block("ram", pages: 64 * 100)], pagesMax: 64 * 10)
        let hot = 0..<64 * 4
        for once in 10..<100 {
            Self.encode(hot, references)
            Self.encode(once * 64..<once * 64 + 64, references)
        }
        #expect(hot.allSatisfy { references.blocks[0].known.contains($0) })
    }

    /// The memory goes back to the host.
    @Test func whatIsForgottenTakesNoRoom() throws {
        let references = try PageReferences([Self.block("ram", pages: 640)], pagesMax: 64)
        Self.encode(0..<640, references)
        #expect(references.pages <= 64)
        let block = references.blocks[0]
        for page in 0..<640 where !block.known.contains(page) {
            #expect(block.memory.load(fromByteOffset: page * pageSize, as: UInt32.self) == 0)
        }
    }
}
