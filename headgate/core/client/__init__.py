"""The client's language: frames in and out, framings and limits; the gateway's."""
