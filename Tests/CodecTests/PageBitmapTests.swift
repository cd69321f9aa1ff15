import Codec
import Testing

@Suite struct PageBitmapTests {
    @Test(arguments: [0, 1, 63, 64, 65, 1000]) func bits(pages: Int) {
        var bitmap = PageBitmap(pages: pages)
        #expect(bitmap.count == 0)
        bitmap.insertAll()
        #expect(bitmap.count == pages)
        #expect((0..<pages).allSatisfy { bitmap.contains($0) })
        bitmap.removeAll()
        #expect(bitmap.count == 0)
        for page in stride(from: 0, to: pages, by: 3) { bitmap.insert(page) }
        for page in stride(from: 0, to: pages, by: 6) { bitmap.remove(page) }
        #expect((0..<pages).allSatisfy { bitmap.contains($0) == ($0 % 6 == 3) })
        #expect(bitmap.count == (0..<pages).count { $0 % 6 == 3 })
        for page in 0..<pages { bitmap.remove(page) }
        #expect(bitmap.count == 0)
    }

    @Test func aGroupIsClearedTogether() {
        var bitmap = PageBitmap(pages: 200)
        bitmap.insertAll()
        bitmap.removeGroup(1)
        #expect(bitmap.count == 200 - 64)
        #expect(!bitmap.containsAny(inGroup: 1) && bitmap.containsAny(inGroup: 0) && bitmap.containsAny(inGroup: 3))
        #expect((0..<200).allSatisfy { bitmap.contains($0) == !(64..<128).contains($0) })
        bitmap.removeGroup(3)
        #expect(bitmap.count == 128)
    }
}
