"""GSAC and REINFORCE in SB3's interface, and the objects they hold. What needs no algorithm belongs below."""
