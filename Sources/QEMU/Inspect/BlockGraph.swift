/// The block nodes of a running QEMU and how they lie upon each other.
struct BlockGraph {
    struct Node: Hashable {
        var name: String
        var driver: String
        /// As QEMU names it: a path, a URL, or a `json:` text.
        var file: String
    }

    /// Drivers that pass a disk's bytes on as they are, and may lie above or below an image's format.
    static let filters: Set<String> = ["throttle", "copy-on-read", "preallocate", "compress"]
    /// Drivers of what an image lies on. A disk without any format above one is as good as `raw`.
    static let storages: Set<String> = [
        "file", "host_device", "host_cdrom", "nbd", "rbd", "iscsi", "nfs", "ssh", "gluster", "http", "https", "ftp",
        "ftps", "null-co", "null-aio",
    ]
    /// The filter of our own mirror, left by an agent that was killed: it goes away before the next one comes.
    private static let ownFilter = "mirror_top"

    private var nodes: [String: Node] = [:]
    /// By a node's name: its child of each role (`file`, `backing`, …).
    private var children: [String: [String: String]] = [:]

    /// From the answers to `query-named-block-nodes` and `x-debug-query-block-graph`.
    init(nodes listed: [JSONValue], graph: JSONValue) {
        for entry in listed {
            guard let name = entry["node-name"]?.string, let driver = entry["drv"]?.string else { continue }
            nodes[name] = Node(name: name, driver: driver, file: entry["file"]?.string ?? "")
        }
        var names: [Int64: String] = [:]
        for entry in graph["nodes"]?.array ?? [] where entry["type"]?.string == "block-driver" {
            if let id = entry["id"]?.int64 { names[id] = entry["name"]?.string }
        }
        for edge in graph["edges"]?.array ?? [] {
            guard let parent = edge["parent"]?.int64.flatMap({ names[$0] }), let role = edge["name"]?.string,
                let child = edge["child"]?.int64.flatMap({ names[$0] })
            else { continue }
            children[parent, default: [:]][role] = child
        }
    }

    /// The node and what lies below it on the way to its storage, in this order.
    func chain(below top: String) -> [Node] {
        var chain: [Node] = []
        var name: String? = top
        while let current = name, let node = nodes[current], !chain.contains(node) {
            chain.append(node)
            let below = children[current]
            name = below?["file"] ?? (node.driver == Self.ownFilter ? below?["backing"] : nil)
        }
        return chain
    }

    /// The image of the disk whose top node this is: its format, and the storage that it lies on.
    func image(below top: String) -> (format: Node, storage: Node)? {
        let chain = chain(below: top)
        guard let storage = chain.last,
            let format = chain.first(where: { !Self.filters.contains($0.driver) && $0.driver != Self.ownFilter })
        else { return nil }
        return (format, storage)
    }

    /// The node that the guest's device uses, whatever our own mirror put above it, or its image's where we serve it.
    func top(_ name: String) -> String {
        let own = ServedDrive.keeper(of: name).flatMap { children[$0]?["file"] } ?? name
        return chain(below: own).first { $0.driver != Self.ownFilter }?.name ?? own
    }
}
