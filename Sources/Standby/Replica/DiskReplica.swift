import Foundation
import Hypervisor
import Messages
import Model
import Storage

/// A replica's disks: their images on this host, which stay the operator's, and what is staged for each.
package struct DiskReplica {
    package let staged: [StagedDisk]
    private let paths: [String]
    private let kept: KeptDigests

    /// Opens and locks the images.
    ///
    /// - Parameters:
    ///   - kept: digests of images that need not be made again.
    ///   - makesMissing: an image that is not there is made, empty and sparse.
    package init(_ offer: OfferMessage, _ options: StandbyOptions, kept: KeptDigests, makesMissing: Bool) throws {
        var disks: [StagedDisk] = []
        do {
            for disk in offer.disks {
                guard let found = offer.guest.disks.first(where: { $0.name == disk.id }) else {
                    throw SessionError(
                        .protocolBroken, "the offer names disk \(disk.id), which its guest does not have")
                }
                let target = options.image(of: found, in: offer.guest)
                let format = try Self.format(of: target)
                if makesMissing, !FileManager.default.fileExists(atPath: target.path) {
                    try DiskImage.make(target.path, format: format, size: disk.size)
                }
                disks.append(
                    StagedDisk(
                        image: try DiskImage(path: target.path, format: format, expectedSize: disk.size, kept: kept)))
            }
        } catch {
            for disk in disks { try? disk.image.close() }
            throw error
        }
        staged = disks
        paths = disks.map(\.image.path)
        self.kept = kept
    }

    /// Of a guest that has its state, and its images with it.
    init(takenOver offer: OfferMessage, _ options: StandbyOptions, kept: KeptDigests) {
        staged = []
        paths = offer.disks.compactMap { disk in
            offer.guest.disks.first { $0.name == disk.id }.map { options.image(of: $0, in: offer.guest).path }
        }
        self.kept = kept
    }

    private static func format(of target: StandbyDisk) throws(SessionError) -> ImageFormat {
        guard let format = ImageFormat(rawValue: target.format) else {
            throw SessionError(
                .refused, "\(target.path): images of format \(target.format) cannot be written; use raw or qcow2")
        }
        return format
    }

    /// Lets go of the images, which the guest opens from then on.
    package func release() throws(StorageError) {
        for disk in staged { try disk.image.close() }
    }

    /// The same, with all that is in them on stable storage.
    package func makeDurable() throws(StorageError) {
        try release()
        for path in paths { try DiskImage.makeDurable(path) }
    }

    /// The same at the end of the replica, with what is known of them kept for the next one.
    package func close() {
        for disk in staged {
            disk.image.keepDigests(in: kept)
            try? disk.image.close()
        }
    }

    /// After a replica that was not made.
    func abandon() {
        for disk in staged { try? disk.image.close() }
    }
}

extension [StagedDisk] {
    /// The disk that a frame names.
    package func disk(_ index: UInt16) throws(SessionError) -> StagedDisk {
        guard Int(index) < count else {
            throw SessionError(.protocolBroken, "there is no disk \(index) in this session (it has \(count))")
        }
        return self[Int(index)]
    }
}
