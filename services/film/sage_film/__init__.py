"""How SAGE reads a film, shared by the prober of ingest and the decoder of embed.

Both must agree on what a film is, which of its tracks is the picture, when each frame is shown and which way up. This
package is where that is decided. It imports PyAV and nothing else, because each probe starts a new process.
"""
