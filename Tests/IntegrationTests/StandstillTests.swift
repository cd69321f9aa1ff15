import Foundation
import TestBed
import Testing

/// What takes as long as a disk, a link or the other host does must not happen while a guest stands still.
@Suite(.serialized, .timeLimit(.minutes(4))) struct StandstillTests {
    /// The standby reads its image to tell what it holds, from storage on which that takes seconds; the client hears the guest
    /// all the while.
    @Test func theGuestRunsWhileTheStandbyReadsItsImage() async throws {
        try await Bed.with { bed in
            // 1024 pieces of 64 KiB, by up to four threads.
            let (wishes, _) = try await Scene.wishesForData(on: bed, mebibytes: 64, delayMilliseconds: 20)
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
