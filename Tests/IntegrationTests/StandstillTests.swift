import Foundation
import TestBed
import Testing

/// What takes as long as a disk, a link or the other host does must not happen while a guest stands still.
@Suite(.serialized, .timeLimit(.minutes(4))) struct StandstillTests {
    /// The standby reads its image to tell what it holds, from storage on which that takes seconds; the client hears the guest
    /// all the while.
    @Test func theGuestRunsWhileTheStandbyReadsItsImage() async throws {
        try await Bed.with { bed in
            let (primary, standby) = ("\(bed.a.stateDirectory)/data.raw", "\(bed.b.stateDirectory)/data.raw")
            for image in [primary, standby] {
                _ = try GuestDisk.create(image, mebibytes: 64, content: .sectorNumbers)
            }
            // 1024 pieces of 64 KiB, by up to four threads.
            let slow = try await SlowDisk.start(on: bed.b, image: standby, delayMilliseconds: 20)
            var wishes = Scene.Wishes()
            wishes.moreArguments = [
                "-drive", "file=\(primary),format=raw,if=none,id=data", "-device", "virtio-blk-pci,drive=data",
            ]
            wishes.standbyDiskLines = ["      data: {path: \(slow.path), format: raw}"]
            let scene = try await Scene.make(on: bed, wishes)
            let verifier = try await Verifier.start(on: bed.client, guest: scene.address, Scene.load())
            let clock = ContinuousClock()
            let began = clock.now
            try await scene.pair.protect(scene.guest)
            let took = began.duration(to: clock.now)
            let report = try await verifier.finish()
            #expect(report.isClean, "\(report)")
            #expect(took > .seconds(4), "the image was read in \(took): this shows nothing")
            #expect(report.longestSilenceMs < 1500, "\(report.longestSilenceMs) ms of silence in \(took)")
        }
    }
}
