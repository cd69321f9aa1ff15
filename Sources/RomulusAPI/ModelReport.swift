/// The model of an epoch's cost as it was learnt; `docs/MODEL.md` has the formulae.
public struct ModelReport: Codable, Hashable, Sendable {
    /// Stopping the guest, taking its state over and letting it run on, in milliseconds.
    public var fixed: Double
    /// QEMU writing the state of its devices.
    public var save: Double
    public var scan: Double
    /// In microseconds for each page.
    public var scanPage: Double
    public var copy: Double
    public var copyPage: Double
    public var encode: Double
    public var encodePage: Double
    /// In bytes.
    public var linkBytes: Double
    public var linkBytesPage: Double
    /// From the last frame to the acknowledgement, in milliseconds.
    public var transfer: Double
    /// In microseconds for each KiB.
    public var transferKiB: Double

    public init(
        fixed: Double, save: Double, scan: Double, scanPage: Double, copy: Double, copyPage: Double, encode: Double,
        encodePage: Double, linkBytes: Double, linkBytesPage: Double, transfer: Double, transferKiB: Double
    ) {
        self.fixed = fixed
        self.save = save
        self.scan = scan
        self.scanPage = scanPage
        self.copy = copy
        self.copyPage = copyPage
        self.encode = encode
        self.encodePage = encodePage
        self.linkBytes = linkBytes
        self.linkBytesPage = linkBytesPage
        self.transfer = transfer
        self.transferKiB = transferKiB
    }

    enum CodingKeys: String, CodingKey {
        case fixed = "fixed_ms"
        case save = "save_ms"
        case scan = "scan_ms"
        case scanPage = "scan_us_per_page"
        case copy = "copy_ms"
        case copyPage = "copy_us_per_page"
        case encode = "encode_ms"
        case encodePage = "encode_us_per_page"
        case linkBytes = "link_bytes"
        case linkBytesPage = "link_bytes_per_page"
        case transfer = "transfer_ms"
        case transferKiB = "transfer_us_per_kib"
    }
}
