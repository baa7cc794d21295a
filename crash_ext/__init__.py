"""The host crash: by faultkit.so, which embeds Python, or inside PyKdump."""
