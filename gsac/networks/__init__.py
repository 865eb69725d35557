"""Actor, critics and features extractors, as SB3 builds, saves and loads them. No losses and no updates."""
