// Says that it has started, and packs.
const started = new BroadcastChannel('threads of a test')
started.postMessage(1)
started.close()
await import('../codec-thread.mjs')
