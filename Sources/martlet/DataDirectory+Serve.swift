internal import Access
internal import Glibc
internal import Logging
internal import Management
internal import Server
internal import Store

/// What a broker with a `data_dir` has open.
struct OpenData {
    let directory: DataDirectory
    let management: Management
    private let control: ControlSocket

    /// As the user that the process stays: root makes the directory for it, by `DataDirectory.make`, and nothing else.
    init(_ path: String, onChange: @escaping @Sendable (Accounts) -> Void) throws(Failure) {
        do {
            directory = try DataDirectory(path)
            let store = try FleetStore(in: directory, version: martletVersion, now: currentMilliseconds())
            management = try Management(store, in: directory, onChange: onChange)
            control = try ControlSocket(
                at: directory.shortPath(of: ControlSocket.fileName), for: management, log: Logger(label: "martlet"))
        } catch let error as FleetStoreError {
            if case .newer = error { throw Failure(.badConfiguration, error) }
            throw Failure(.failed, error)
        } catch {
            throw Failure(.failed, "data_dir: \(error)")
        }
        control.start()
    }

    /// The subcommands reach nobody from now on.
    func stop() { control.stop() }

    /// After `stop`. Lets the next process have it.
    func close() async throws { try await management.close() }
}
